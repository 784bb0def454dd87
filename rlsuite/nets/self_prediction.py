"""The transition model of self-predictive representations (SPR, Schwarzer et al. 2021). Shapes: B batch, K steps, A actions."""

import torch
from torch import Tensor, nn

WIDTH = 64  # channels of the hidden layer, as in the authors' code


def renormalised(features: Tensor) -> Tensor:
    """Features [...,D] rescaled to [0,1] in every row, which keeps a model bounded that is applied repeatedly."""
    low, high = features.amin(-1, keepdim=True), features.amax(-1, keepdim=True)
    return (features - low) / (high - low + 1e-5)


class Transition(nn.Module):
    """Predicts the next observation's feature map from the current one and the action, by two 3x3 convolutions."""

    def __init__(self, shape: tuple[int, ...], num_actions: int):
        """`shape`: (C,H,W) of the map."""
        super().__init__()
        self.shape, self.num_actions = shape, num_actions
        self.net = nn.Sequential(
            nn.Conv2d(shape[0] + num_actions, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, shape[0], 3, padding=1), nn.ReLU()
        )

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        """Flat maps [B,C*H*W] and actions [B] i64 -> flat maps [B,C*H*W]; the action is a plane of ones among A planes."""
        x = features.reshape(-1, *self.shape)
        planes = nn.functional.one_hot(action, self.num_actions).to(x.dtype)[:, :, None, None].expand(-1, -1, *self.shape[1:])
        return renormalised(self.net(torch.cat([x, planes], 1)).flatten(1))
