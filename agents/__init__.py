"""The shipped agents: name -> import path "module:Class", imported on first use."""

AGENTS = {
    "q_learning": "rlsuite.agents.q_learning:QLearning",
    "reinforce": "rlsuite.agents.reinforce:Reinforce",
    "a2c": "rlsuite.agents.a2c:A2C",
    "ppo": "rlsuite.agents.ppo:PPO",
    "gail": "rlsuite.agents.gail:GAIL",
    "impala": "rlsuite.agents.impala:Impala",
    "dqn": "rlsuite.agents.dqn:DQN",
    "c51": "rlsuite.agents.distributional:C51",
    "qrdqn": "rlsuite.agents.distributional:QRDQN",
    "iqn": "rlsuite.agents.distributional:IQN",
    "pqn": "rlsuite.agents.pqn:PQN",
    "r2d2": "rlsuite.agents.r2d2:R2D2",
    "behaviour_cloning": "rlsuite.agents.behaviour_cloning:BehaviourCloning",
    "inverse_dynamics": "rlsuite.agents.inverse_dynamics:InverseDynamics",
    "masked_steps": "rlsuite.agents.masked_steps:MaskedSteps",
    "decision_transformer": "rlsuite.agents.decision_transformer:DecisionTransformer",
    "alphago": "rlsuite.agents.alphago:AlphaGo",
    "alphazero": "rlsuite.agents.alphazero:AlphaZero",
}
