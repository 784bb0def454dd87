"""Memory cores, which give a net a recurrent state. All have the same signature, for single steps and for sequences.

The state is passed in and returned; a core itself resets it where `step.first` is set.

Shapes: T time, B batch, D input features, M memory units, A actions.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from rlsuite.config.schema import NetConfig
from rlsuite.config.spec_string import check_keywords, parse_call
from rlsuite.core import registry
from rlsuite.core.errors import UsageError
from rlsuite.core.types import EnvSpec, State, Step
from rlsuite.nets.precision import keep_fp32


class Core(nn.Module):
    """Base class of memory cores.

    `forward(x, step, state)` maps x [T,B,D], step [T,B] and state [B,...] to (output [T,B,features], state after step T-1).
    """

    features: int  # width of the output
    looks_ahead = False  # whether outputs depend on later steps, too, so that no agent can act with it

    @property
    def receptive_field(self) -> int | None:
        """The number of steps that an output depends on, including the present one; None: the whole episode."""
        return None

    def initial_state(self, batch: int) -> State:
        """The state at the start of an episode, a tuple of tensors [B,...]."""
        raise NotImplementedError


class FeedForward(Core):
    """The core of a net without memory: returns its input, and the state is ()."""

    def __init__(self, features: int):
        super().__init__()
        self.features = features

    def initial_state(self, batch: int) -> State:
        return ()

    def forward(self, x: Tensor, step: Step, state: State) -> tuple[Tensor, State]:
        return x, state


class Recurrent(Core):
    """One layer of LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014) or RNN (Elman 1990), with gates and state in fp32.

    PyTorch's fused kernels (cuDNN's on a GPU) cannot reset the state within a sequence. So a sequence is split at the steps at
    which any environment begins an episode, and the state of those environments is set to 0 there. A single step on a CPU avoids
    the fused kernels, which would copy all weights into another layout: that halves its time. With `fixed_shapes`, sequences avoid
    them, too: steps are computed one by one, with resets as masks, because a CUDA graph cannot depend on where episodes begin.
    """

    fixed_shapes = False

    def __init__(self, features: int, size: int, kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]):
        super().__init__()
        self.features = size
        self.lstm, self.compute = kind is nn.LSTM, _SINGLE[kind]
        self.cell = keep_fp32(kind(features, size))
        for name, parameter in self.cell.named_parameters():
            nn.init.zeros_(parameter) if "bias" in name else nn.init.orthogonal_(parameter)
        # The bias of the second gate (forget in an LSTM, update in a GRU) starts at 1: with 0 the state is halved at every step
        # (Jozefowicz et al. 2015), and an LSTM did not learn to recall a cue from 10 steps back within 60,000 steps.
        if kind is not nn.RNN:
            with torch.no_grad():
                self.cell.get_parameter("bias_ih_l0")[size : 2 * size] = 1.0

    def initial_state(self, batch: int) -> State:
        """Leaves [B,M] f32: hidden and cell for an LSTM, hidden for a GRU or RNN."""
        return tuple(torch.zeros(batch, self.features) for _ in range(2 if self.lstm else 1))

    def forward(self, x: Tensor, step: Step, state: State) -> tuple[Tensor, State]:
        """(x [T,B,D], step [T,B], state [B,M]) -> (output [T,B,M] f32, state after step T-1)."""
        with torch.autocast(x.device.type, enabled=False):
            if self.fixed_shapes:
                return self.masked(x.float(), step.first, state)
            run = self.single if len(x) == 1 and x.device.type == "cpu" else self.fused
            return run(x.float(), step.first, state)

    def fused(self, x: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        """`forward` with the fused kernels: (x [T,B,D] f32, first [T,B] bool, state [B,M]) -> (output [T,B,M], state)."""
        resets = torch.nonzero(first[1:].any(1)).flatten().add(1).tolist()
        bounds = [0, *resets, x.shape[0]]
        outs = []
        for begin, end in pairwise(bounds):
            keep = (~first[begin]).unsqueeze(-1)  # [B,1]
            state = tuple(leaf * keep for leaf in state)  # [B,M]
            inner = tuple(leaf.unsqueeze(0) for leaf in state)  # [1,B,M]
            out, inner = self.cell(x[begin:end], inner if self.lstm else inner[0])
            state = tuple(leaf.squeeze(0) for leaf in (inner if self.lstm else (inner,)))
            outs.append(out)
        return torch.cat(outs), state

    def masked(self, x: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        """`forward` step by step, with the same operations wherever episodes begin; arguments and results as in `fused`."""
        outs = []
        for t in range(len(x)):
            out, state = self.single(x[t : t + 1], first[t : t + 1], state)
            outs.append(out)
        return torch.cat(outs), state

    def single(self, x: Tensor, first: Tensor, state: State) -> tuple[Tensor, State]:
        """`forward` without the fused kernels: (x [1,B,D] f32, first [1,B] bool, state [B,M]) -> (output [1,B,M], state)."""
        keep = (~first[0]).unsqueeze(-1)  # [B,1]
        state = tuple(leaf * keep for leaf in state)  # [B,M]
        weights = self.cell.all_weights[0]
        state = self.compute(x[0], state, *weights) if self.lstm else (self.compute(x[0], state[0], *weights),)
        return state[0].unsqueeze(0), state


# One step of each kind.
_SINGLE: dict[type[nn.Module], Callable[..., Any]] = {
    nn.LSTM: torch.lstm_cell,
    nn.GRU: torch.gru_cell,
    nn.RNN: torch.rnn_tanh_cell,
}


class Bidirectional(Core):
    """Two recurrent cores, one of which reads backwards (Schuster & Paliwal 1997): an output depends on its whole episode.

    The forward core carries the state. The backward core starts from zeros at the end of the sequence and of each episode in it.
    """

    looks_ahead = True

    def __init__(self, features: int, size: int, kind: type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]):
        super().__init__()
        self.features = 2 * size
        self.forwards, self.backwards = Recurrent(features, size, kind), Recurrent(features, size, kind)

    def initial_state(self, batch: int) -> State:
        """See `Recurrent`."""
        return self.forwards.initial_state(batch)

    def forward(self, x: Tensor, step: Step, state: State) -> tuple[Tensor, State]:
        """(x [T,B,D], step [T,B], state [B,M]) -> (output [T,B,2M] f32, state after step T-1)."""
        ends = torch.cat([step.first[1:], torch.ones_like(step.first[:1])])  # [T,B]
        seen, after = self.forwards(x, step, state)  # [T,B,M]
        blank = tuple(torch.zeros_like(leaf) for leaf in state)
        ahead, _ = self.backwards(x.flip(0), step._replace(first=ends.flip(0)), blank)  # [T,B,M]
        return torch.cat([seen, ahead.flip(0)], -1), after


class Causal(Core):
    """Dilated causal convolutions (WaveNet, van den Oord et al. 2016): L levels of gated residual blocks.

    Level l sees its input at K steps, 2^l apart, the newest of which is the present one. So the last level sees
    1 + (K - 1) (2^L - 1) steps. Inputs from before the episode count as 0. The state holds the inputs of each level at the steps
    that it can still see, and how many steps the episode has had.
    """

    def __init__(self, features: int, size: int, levels: int, kernel: int):
        super().__init__()
        self.features, self.kernel = size, kernel
        self.reach: list[int] = [(kernel - 1) * 2**level for level in range(levels)]  # steps that each level looks back
        self.embed = nn.Linear(features, size)
        self.taps = nn.ModuleList(nn.Linear(kernel * size, 2 * size) for _ in range(levels))  # filter and gate, of all taps
        self.outs = nn.ModuleList(nn.Linear(size, 2 * size) for _ in range(levels))  # residual and skip
        self.last = nn.Linear(size, size)

    @property
    def receptive_field(self) -> int:
        """See `Core`: every level extends it by the steps that it looks back."""
        return 1 + sum(self.reach)

    def initial_state(self, batch: int) -> State:
        """The levels' inputs [B,receptive field - 1,M] f32, level by level, the oldest first; steps of the episode [B] i64."""
        return torch.zeros(batch, sum(self.reach), self.features), torch.zeros(batch, dtype=torch.int64)

    def forward(self, x: Tensor, step: Step, state: State) -> tuple[Tensor, State]:
        """(x [T,B,D], step [T,B], state) -> (output [T,B,M], state after step T-1)."""
        seen, count = state
        first = step.first.transpose(0, 1)  # [B,T]
        length, at = x.shape[0], torch.arange(x.shape[0], device=x.device)
        begun = torch.where(first, at, -1).cummax(1).values  # [B,T] the last start of an episode; -1: before this sequence
        age = torch.where(begun >= 0, at - begun, at + count.unsqueeze(1))  # [B,T] steps of the episode before each step
        x = self.embed(x).transpose(0, 1)  # [B,T,M]
        skips, kept = torch.zeros_like(x), []
        for reach, before, taps, outs in zip(self.reach, seen.split(self.reach, 1), self.taps, self.outs, strict=True):
            whole = torch.cat([before.to(x.dtype), x], 1)  # [B,reach+T,M]
            kept.append(whole[:, length:].float())
            inputs = []
            for back in range(reach, -1, -reach // (self.kernel - 1)):
                inputs.append(whole[:, reach - back : reach - back + length] * (age >= back).unsqueeze(-1))
            signal, gate = taps(torch.cat(inputs, -1)).chunk(2, -1)
            residual, skip = outs(torch.tanh(signal) * torch.sigmoid(gate)).chunk(2, -1)
            x, skips = x + residual, skips + skip
        count = (age[:, -1] + 1).clamp(max=self.receptive_field)
        return torch.relu(self.last(torch.relu(skips))).transpose(0, 1), (torch.cat(kept, 1), count)


class ReturnToGo(Core):
    """A wrapper that also feeds a core the return to go (Chen et al. 2021), divided by `scale`.

    For recorded steps, this is their extra `to_go`. Otherwise, it is `target` at the first step of an episode, minus the rewards
    since then; the last leaf of the state holds it.
    """

    def __init__(self, make: Callable[[int], Core], features: int, target: float, scale: float):
        super().__init__()
        self.core = make(features + 1)
        self.features, self.target, self.scale = self.core.features, target, scale

    def initial_state(self, batch: int) -> State:
        return (*self.core.initial_state(batch), torch.full((batch,), self.target))

    def forward(self, x: Tensor, step: Step, state: State) -> tuple[Tensor, State]:
        """(x [T,B,D], step [T,B], state [B,...]) -> (output [T,B,features], state after step T-1)."""
        *inner, asked = state
        to_go = step.extras.get("to_go")  # [T,B]
        if to_go is None:
            left = []
            for t in range(len(x)):
                asked = torch.where(step.first[t], torch.full_like(asked, self.target), asked - step.reward[t])  # [B]
                left.append(asked)
            to_go = torch.stack(left)
        x, after = self.core(torch.cat([x, (to_go / self.scale).unsqueeze(-1).to(x.dtype)], -1), step, tuple(inner))
        return x, (*after, to_go[-1])


class LastActionReward(Core):
    """A wrapper that also feeds a core the previous action, one-hot or embedded, and the tanh of the reward that followed it.

    See R2D2 (Kapturowski et al. 2019, section 2.3); the tanh is Acme's. Both inputs are 0 at the first step of an episode. The last
    leaf of the state is the action taken before the next step, -1 where there is none. `acting.act` writes it, because the net does
    not know which action is taken.
    """

    def __init__(self, make: Callable[[int], Core], features: int, spec: EnvSpec, width: int | None = None):
        """`width`: size of the action embedding; None: none. UsageError for an embedding of continuous actions."""
        super().__init__()
        self.actions, self.action_shape = spec.num_actions, spec.action_shape
        if width is not None and spec.action_shape:
            raise UsageError(f"net.action_embedding = {width}: these actions are continuous, so each is its own vector; use null")
        self.embedding = None if width is None else nn.Embedding(spec.num_actions, width)
        self.core = make(features + (width or spec.num_actions or sum(spec.action_shape)) + 1)
        self.features = self.core.features

    def initial_state(self, batch: int) -> State:
        before = torch.zeros(batch, *self.action_shape) if self.action_shape else torch.full((batch,), -1)
        return (*self.core.initial_state(batch), before)

    def forward(self, x: Tensor, step: Step, state: State) -> tuple[Tensor, State]:
        """(x [T,B,D], step [T,B], state [B,...]) -> (output [T,B,features], state after step T-1)."""
        *inner, before = state
        action = torch.cat([before.unsqueeze(0), step.action[:-1]])  # [T,B] i64, or [T,B,A] f32
        if self.embedding is not None:
            action = self.embedding(action.clamp(min=0)) * (action >= 0).unsqueeze(-1)
        elif not self.action_shape:
            action = action.unsqueeze(-1) == torch.arange(self.actions, device=x.device)  # one-hot, zeros for -1
        extras = torch.cat([action.to(x.dtype), torch.tanh(step.reward).unsqueeze(-1).to(x.dtype)], -1)  # [T,B,A+1]
        extras = extras * ~step.first.unsqueeze(-1)
        x, after = self.core(torch.cat([x, extras], -1), step, tuple(inner))
        return x, (*after, step.action[-1])


def lstm(features: int, size: int) -> Core:
    """An LSTM core of `size` units."""
    return Recurrent(features, size, nn.LSTM)


def gru(features: int, size: int) -> Core:
    """A GRU core of `size` units."""
    return Recurrent(features, size, nn.GRU)


def rnn(features: int, size: int) -> Core:
    """An Elman network of `size` units."""
    return Recurrent(features, size, nn.RNN)


def bidirectional(features: int, size: int, core: str = "lstm") -> Core:
    """An lstm, gru or rnn core of `size` units in each direction, for nets that do not act. ValueError for another core."""
    kinds: dict[str, type[nn.LSTM] | type[nn.GRU] | type[nn.RNN]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    if core not in kinds:
        raise ValueError("core must be lstm, gru or rnn")
    return Bidirectional(features, size, kinds[core])


def causal(features: int, size: int, levels: int = 5, kernel: int = 2) -> Core:
    """Dilated causal convolutions of `size` channels. ValueError for impossible parameters."""
    if not (isinstance(levels, int) and 1 <= levels <= 12 and isinstance(kernel, int) and 2 <= kernel <= 8):
        raise ValueError("levels must be a whole number from 1 to 12, and kernel one from 2 to 8")
    return Causal(features, size, levels, kernel)


Make = Callable[[int], Core]  # input features -> a core


def make_core(net: NetConfig, features: int, spec: EnvSpec, wrap: Callable[[Make, int], Core] | None = None) -> Core:
    """The core for `net.memory` and `net.last_action_reward`, with `features` inputs.

    `wrap(make, features)`: a core with `features` inputs around the core of `net.memory`, which `make` builds.
    UsageError for an unknown core and for wrong parameters.
    """

    def bare(width: int) -> Core:
        return named_core(net.memory, width, net.memory_size)

    def inner(width: int) -> Core:
        return bare(width) if wrap is None else wrap(bare, width)

    return LastActionReward(inner, features, spec, net.action_embedding) if net.last_action_reward else inner(features)


def named_core(name: str, features: int, size: int, key: str = "net.memory") -> Core:
    """The core named `name`, with `features` inputs and `size` units. UsageError for an unknown core or wrong parameters.

    `key`: the setting whose value is `name`, for errors.
    """
    kind, parameters = parse_call("memory", name)
    if kind == "none":
        return FeedForward(features)
    make = registry.memory_cores.get(kind)
    check_keywords(kind, make, parameters, skip=2)
    core: Core
    if kind not in registry.memory_cores.shipped:
        with registry.third_party(f"{key} = {name}"):
            core = make(features, size, **parameters)
        _check(core, name, features)
        return core
    try:
        core = make(features, size, **parameters)
    except ValueError as error:
        raise UsageError(f"{key}={name}: {error}") from error
    return core


def _check(core: Core, name: str, features: int) -> None:
    """Tries out a third-party core on a blank step. UsageError if it breaks the contract."""
    where, kind = f"net.memory = {name}", type(core).__name__
    if not isinstance(core, Core):
        raise UsageError(f"{where} returned a {kind}, not a rlsuite.nets.memory.Core")
    if not isinstance(getattr(core, "features", None), int):
        raise UsageError(f"{where}: {kind} has no features, the whole number D of what it returns")
    blank, no = torch.zeros(1, 2, features), torch.zeros(1, 2, dtype=torch.bool)  # [T,B,D], [T,B]
    with registry.third_party(f"{where}: {kind}.initial_state"):
        state = core.initial_state(2)
    if not isinstance(state, tuple):
        raise UsageError(f"{where}: {kind}.initial_state returned a {type(state).__name__}, not a tuple of tensors")
    if blank.is_meta:
        return  # only its state is asked for
    step = Step(blank, torch.zeros(1, 2), ~no, no, no, torch.zeros(1, 2, dtype=torch.int64), {})
    with registry.third_party(f"{where}: {kind}.forward"), torch.no_grad():
        out, after = core(blank, step, state)
        shape, shapes, changed = list(out.shape), *([list(leaf.shape) for leaf in leaves] for leaves in (state, after))
    if shape != [1, 2, core.features]:
        raise UsageError(f"{where}: {kind}.forward returned {shape}, not [T,B,features] = [1, 2, {core.features}]")
    if shapes != changed:
        raise UsageError(f"{where}: {kind}.forward changed the state's shapes from {shapes} to {changed}")


def initial_state(net: NetConfig, spec: EnvSpec, batch: int, wrap: Callable[[Make, int], Core] | None = None) -> State:
    """The state at the start of an episode for the core of a net with this config: leaves [B,...]; () without a memory.

    `wrap`: see `make_core`.
    """
    with torch.device("meta"):  # its weights are not needed
        core = make_core(net, 1, spec, wrap)
    return core.initial_state(batch)


def without_weights(net: NetConfig) -> Core:
    """The core of `net.memory` on the meta device, without weights, to look up its properties."""
    with torch.device("meta"):
        return named_core(net.memory, 1, net.memory_size)
