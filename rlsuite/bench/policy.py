"""ppo: PPO training on Pong, collecting and updating together.

Shapes: K steps of a rollout, L environments, B batch, A actions.
"""

import importlib
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rlsuite.bench.acting import sb3_env
from rlsuite.bench.measure import NOT_INSTALLED, BenchSettings, Row, Target, Work, alternate, config, lacking, named, say
from rlsuite.bench.train import Ours, rounds_of, sb3_rounds
from rlsuite.config.schema import Config
from rlsuite.factories import device_of

NUM_ENVS, MINIBATCHES, EPOCHS = 8, 4, 4
RATE, CLIP, ENTROPY, VALUE, DISCOUNT, LAMBDA, NORM = 2.5e-4, 0.1, 0.01, 0.5, 0.99, 0.95, 0.5


def bench_ppo(settings: BenchSettings) -> list[Row]:
    """Agent steps per second of PPO, against Stable-Baselines3 and a plain loop; and of ours with an LSTM, against ours without."""
    setup = setup_of(settings, "none")
    k = setup.run.collect_agent_steps
    with ExitStack() as stack:
        contenders: dict[str, Work] = {}
        for name, memory in (("ours", "none"), ("recurrent", "lstm")):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            ours = Ours(setup_of(settings, memory), folder)
            stack.callback(ours.close)
            contenders[name] = rounds_of(ours, NUM_ENVS * k)
        contenders["plain"] = Plain(device_of(setup), settings.threads or 1, k).work
        label = f"Stable-Baselines3's PPO ({NOT_INSTALLED})"
        if not lacking(["stable_baselines3", "cv2"]):
            contenders["sb3"] = _sb3(str(device_of(setup)), k)
            label = f"{named('stable_baselines3')}'s PPO (CnnPolicy, fp32)"
        say(f"ppo: each round is a rollout of {NUM_ENVS * k} steps and {EPOCHS * MINIBATCHES} updates")
        rates = alternate("ppo", contenders, settings)
    shared = (
        f"{NUM_ENVS} environments, rollouts of {k}, {EPOCHS} epochs of {MINIBATCHES} minibatches, Nature net of 512 units, Adam"
    )
    mine = f"Pong, local runtime, bf16, channels_last, {shared}, against"
    what = {
        "sb3": (f"{mine} {label} with the same settings", rates.get("sb3"), Target("ratio", ">=", 2.2)),
        "plain": (
            f"{mine} a plain fp32 NCHW loop with the same settings on ALE's C++ env",
            rates["plain"],
            Target("ratio", ">=", 1.5),
        ),
    }
    rows = [Row(f"ppo/{key}", text, "agent steps/s", rates["ours"], other, target) for key, (text, other, target) in what.items()]
    text = "the same with an LSTM of 256 units and minibatches of whole environments, against ours without one"
    return [*rows, Row("ppo/recurrent", text, "agent steps/s", rates["recurrent"], rates["ours"], Target("ratio", ">=", 0.5))]


def setup_of(settings: BenchSettings, memory: str) -> Config:
    """The config of our PPO on Pong with the settings of the references, and the memory core `memory`."""
    return config(
        settings,
        {
            "name": "ppo",
            "discount": DISCOUNT,
            "gae_lambda": LAMBDA,
            "clip": CLIP,
            "epochs": EPOCHS,
            "minibatches": MINIBATCHES,
            "entropy_weight": ENTROPY,
            "value_weight": VALUE,
            "reward_clip": 1.0,
        },
        env={"num_envs": NUM_ENVS, "life_loss": True, "fire_reset": True},
        net={"memory": memory, "memory_size": 256},
        learner={"batch_size": NUM_ENVS, "learning_rate": RATE, "optimizer_epsilon": 1e-5, "max_grad_norm": NORM},
        run={"collect_agent_steps": 4 if settings.quick else 128, "checkpoint_minutes": 1e9},
    )


def _sb3(device: str, k: int) -> Work:
    ppo: Any = importlib.import_module("stable_baselines3").PPO
    model = ppo(
        "CnnPolicy",
        sb3_env(NUM_ENVS),
        learning_rate=RATE,
        n_steps=k,
        batch_size=NUM_ENVS * k // MINIBATCHES,
        n_epochs=EPOCHS,
        gamma=DISCOUNT,
        gae_lambda=LAMBDA,
        clip_range=CLIP,
        ent_coef=ENTROPY,
        vf_coef=VALUE,
        max_grad_norm=NORM,
        seed=1,
        device=device,
    )
    return sb3_rounds(model, NUM_ENVS * k)


class Plain:
    """PPO as a good single-file script writes it: fp32, NCHW, frame stacks from the emulator, flat minibatches."""

    def __init__(self, device: torch.device, threads: int, k: int):
        from ale_py.vector_env import AtariVectorEnv

        self.device, self.k = device, k
        self.env = AtariVectorEnv(
            "pong", NUM_ENVS, num_threads=min(threads, NUM_ENVS), episodic_life=True, reward_clipping=True, use_fire_reset=True
        )
        convolutions = [nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 1), nn.ReLU()]
        self.trunk = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(3136, 512), nn.ReLU()).to(device)
        self.heads = nn.Linear(512, 6 + 1).to(device)  # logits and value
        self.parameters = [*self.trunk.parameters(), *self.heads.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=RATE, eps=1e-5)
        self.observation = torch.from_numpy(self.env.reset(seed=1)[0]).to(device)
        self.done = torch.zeros(NUM_ENVS, device=device)

    def _net(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities [B,A] and values [B]."""
        out = self.heads(self.trunk(observation / 255.0))
        return out[:, :-1].log_softmax(-1), out[:, -1]

    def work(self, rounds: int) -> int:
        """Trains for a number of rollouts and returns the agent steps that they took."""
        for _ in range(rounds):
            self._update(*self._rollout())
        return rounds * NUM_ENVS * self.k

    @torch.no_grad()
    def _rollout(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Observations [K,L,4,84,84], and actions, log-probabilities, values and advantages [K,L] of a new rollout."""
        shape = (self.k, NUM_ENVS)
        observations = torch.zeros((*shape, 4, 84, 84), dtype=torch.uint8, device=self.device)
        actions = torch.zeros(shape, dtype=torch.long, device=self.device)
        log_probs, rewards, dones, values = torch.zeros((4, *shape), device=self.device)
        for k in range(self.k):
            observations[k], dones[k] = self.observation, self.done
            log_p, values[k] = self._net(self.observation)
            actions[k] = torch.multinomial(log_p.exp(), 1)[:, 0]
            log_probs[k] = log_p.gather(1, actions[k, :, None])[:, 0]
            observation, reward, terminated, truncated, _ = self.env.step(actions[k].cpu().numpy())
            self.observation = torch.from_numpy(observation).to(self.device)
            rewards[k] = torch.from_numpy(np.asarray(reward, np.float32))
            self.done = torch.from_numpy((terminated | truncated).astype(np.float32)).to(self.device)
        advantages, next_advantage, next_value, alive = torch.zeros_like(values), 0.0, self._net(self.observation)[1], 1 - self.done
        for k in reversed(range(self.k)):
            delta = rewards[k] + DISCOUNT * next_value * alive - values[k]
            next_advantage = advantages[k] = delta + DISCOUNT * LAMBDA * alive * next_advantage
            next_value, alive = values[k], 1 - dones[k]
        return observations, actions, log_probs, values, advantages

    def _update(self, observations: Tensor, *others: Tensor) -> None:
        flat = observations.flatten(0, 1)
        actions, log_probs, values, advantages = (leaf.flatten() for leaf in others)
        returns = advantages + values
        for _ in range(EPOCHS):
            for rows in torch.randperm(flat.shape[0], device=self.device).chunk(MINIBATCHES):
                log_p, value = self._net(flat[rows])
                ratio = (log_p.gather(1, actions[rows, None])[:, 0] - log_probs[rows]).exp()
                advantage = advantages[rows]
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                entropy = -(log_p.exp() * log_p).sum(-1).mean()
                surrogate = torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()
                loss = -surrogate + VALUE * 0.5 * (value - returns[rows]).square().mean() - ENTROPY * entropy
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(self.parameters, NORM)
                self.optimizer.step()
