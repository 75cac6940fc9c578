"""Settings of a run as frozen dataclasses; files, flags and ``--help`` come from them."""

from llmagentos.settings.asked import asked_codec, asked_personal, asked_privacy
from llmagentos.settings.codec import CodecSettings
from llmagentos.settings.cohort import CohortSettings
from llmagentos.settings.corpus import CorpusSettings, PartitionSettings
from llmagentos.settings.engines import FlowerSettings, RaySettings
from llmagentos.settings.evaluation import EvaluationSettings
from llmagentos.settings.local import LocalSettings
from llmagentos.settings.model import LoraSettings, ModelSettings
from llmagentos.settings.personal import PersonalSettings
from llmagentos.settings.privacy import PrivacySettings
from llmagentos.settings.run import RunSettings
from llmagentos.settings.server import OF_AGENTS, SERVER_SIDE, ServerSettings
from llmagentos.settings.terms import RowSettings, Terms

__all__ = [
    "OF_AGENTS",
    "SERVER_SIDE",
    "CodecSettings",
    "CohortSettings",
    "CorpusSettings",
    "EvaluationSettings",
    "FlowerSettings",
    "LocalSettings",
    "LoraSettings",
    "ModelSettings",
    "PartitionSettings",
    "PersonalSettings",
    "PrivacySettings",
    "RaySettings",
    "RowSettings",
    "RunSettings",
    "ServerSettings",
    "Terms",
    "asked_codec",
    "asked_personal",
    "asked_privacy",
]
