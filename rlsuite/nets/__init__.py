"""Networks. The tables below map the names of torsos and memory cores to the import paths of their builders.

Backbones have a table of their own, in `nets.backbones`.
"""

TORSOS = {"mlp": "rlsuite.nets.torso:mlp", "onehot": "rlsuite.nets.torso:one_hot"}
MEMORY_CORES = {
    "lstm": "rlsuite.nets.memory:lstm",
    "gru": "rlsuite.nets.memory:gru",
    "rnn": "rlsuite.nets.memory:rnn",
    "attention": "rlsuite.nets.attention:attention",
    "causal": "rlsuite.nets.memory:causal",
    "bidirectional": "rlsuite.nets.memory:bidirectional",
}
