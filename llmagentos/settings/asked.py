"""What the settings of a task ask of an agent; what they do not say has its default."""

from collections.abc import Mapping
from typing import Any

from llmagentos.settings.codec import CodecSettings
from llmagentos.settings.personal import PersonalSettings
from llmagentos.settings.privacy import PrivacySettings


def asked_codec(settings: Mapping[str, Any]) -> CodecSettings:
    """How the change is to be coded."""
    return CodecSettings(**settings.get("codec", {}))


def asked_personal(settings: Mapping[str, Any]) -> PersonalSettings:
    """What the agent is to make of an adapter of its own."""
    return PersonalSettings(**settings.get("personal", {}))


def asked_privacy(settings: Mapping[str, Any]) -> PrivacySettings:
    """How the change is to be clipped and blurred."""
    return PrivacySettings(**settings.get("privacy", {}))
