"""Heads that make pictures: autoencoders, generative adversarial networks, and translators.

Shapes: N pictures, C channels, H x W pixels, L numbers in a code, K classes. Pictures that a head makes are f32 in [0,1].
"""
