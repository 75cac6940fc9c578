"""The object API: any torch module and loss, trained together by clients in this process."""

from llmagentos.api.federated_learning import FederatedLearning

__all__ = ["FederatedLearning"]
