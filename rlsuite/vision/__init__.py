"""Vision models on the backbones of the agents: classification, segmentation, detection, and probes of an agent's torso."""
