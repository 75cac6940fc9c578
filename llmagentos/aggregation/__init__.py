"""How the agents' LoRA factors become the next global adapter."""
