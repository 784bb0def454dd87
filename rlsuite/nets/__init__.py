"""Networks. Torsos and memory cores by name -> import path of their builder (backbones: see `nets.backbones`)."""

TORSOS = {"mlp": "rlsuite.nets.torso:mlp", "onehot": "rlsuite.nets.torso:one_hot"}
MEMORY_CORES = {
    "lstm": "rlsuite.nets.memory:lstm",
    "gru": "rlsuite.nets.memory:gru",
    "attention": "rlsuite.nets.memory:attention",
}
