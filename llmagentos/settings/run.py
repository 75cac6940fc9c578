"""One federated run: everything that its result depends on."""

from dataclasses import dataclass, field
from typing import Literal

from llmagentos.settings.checks import check_threads, require
from llmagentos.settings.codec import CodecSettings
from llmagentos.settings.cohort import CohortSettings
from llmagentos.settings.corpus import CorpusSettings
from llmagentos.settings.engines import FlowerSettings, RaySettings
from llmagentos.settings.evaluation import EvaluationSettings
from llmagentos.settings.local import LocalSettings
from llmagentos.settings.model import LoraSettings, ModelSettings
from llmagentos.settings.personal import PersonalSettings
from llmagentos.settings.privacy import PrivacySettings
from llmagentos.settings.server import ServerSettings
from llmagentos.settings.together import (
    check_codec,
    check_dual,
    check_personal,
    check_privacy,
    check_schedule,
    check_strategy,
    check_waiting,
)


@dataclass(frozen=True)
class RunSettings:
    """Federated LoRA tuning of one language model over the corpora of several agents."""

    rounds: int = 3
    """Rounds of training; a resumed run may ask for more."""
    schedule_rounds: int | None = None
    """Rounds that the learning-rate schedule spans: ``rounds`` at the start unless given."""
    seed: int = 0
    """Seed of everything that is drawn: data order, sampling, dropout, first factors."""
    threads: int | None = None
    """Threads of torch, all cores unless given; recorded with the run, as they change bits."""
    model: ModelSettings = ModelSettings()
    """The frozen base model."""
    lora: LoraSettings = LoraSettings()
    """The adapter."""
    corpus: CorpusSettings = CorpusSettings()
    """The agents' text."""
    local: LocalSettings = LocalSettings()
    """Training at an agent."""
    codec: CodecSettings = CodecSettings()
    """What travels of an agent's change."""
    privacy: PrivacySettings = PrivacySettings()
    """How much of its change an agent lets be seen."""
    trainer: Literal["auto", "single", "cohort"] = "auto"
    """``single`` trains agents one by one, ``cohort`` side by side in one batch: faster where a
    batch is small, for more memory. ``auto`` is cohort where ``local.batch`` times
    ``corpus.max_tokens`` is at most 128 (4096 on a GPU) and nothing stands in the way."""
    cohort: CohortSettings = CohortSettings()
    """Agents side by side."""
    aggregation: Literal[
        "naive",
        "zero_pad",
        "hetlora",
        "ffa",
        "rolora",
        "fedsa",
        "flora",
        "flexlora",
        "fedex",
        "fedsvd",
        "lora_fair",
    ] = "naive"
    """How the agents' factors A and B become the next ones: ``naive`` averages both, which is not
    the average of their products. ``ffa`` and ``rolora`` train one at a time and send half.
    ``flora`` and ``fedex`` keep what is missing beside the base, ``flexlora`` takes the best of the
    rank; see docs/aggregation.md."""
    personal: PersonalSettings = PersonalSettings()
    """What agents keep of their own beside the shared adapter."""
    engine: Literal["in_process", "processes", "ray", "flower"] = "in_process"
    """Where agents train: in the server's process; each in a process of its own; on a Ray cluster
    of one owner; or over Flower. The last three need the extras agents, ray and flower."""
    ray: RaySettings = RaySettings()
    """Ray."""
    flower: FlowerSettings = FlowerSettings()
    """Flower."""
    server: ServerSettings = ServerSettings()
    """Averaging at the server."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Held-out evaluation."""
    init_adapter: str | None = None
    """PEFT folder to start from; its rank, alpha, targets, whole modules and biases replace
    ``lora``'s."""
    sample_prompt: str | None = None
    """Prompt that is answered before and after; a held-out row unless given."""
    keep_updates: bool = False
    """Keep the agents' updates in the journal after their round is published."""
    trackers: list[str] = field(default_factory=list)
    """Trackers of accelerate that get the metrics: tensorboard, mlflow, wandb."""
    prometheus: str | None = None
    """HOST:PORT where Prometheus reads the run's numbers, as in 127.0.0.1:9464; nowhere unless
    given."""

    def __post_init__(self) -> None:
        require(self.rounds >= 1, "rounds", self.rounds, "needs at least 1")
        require(0 <= self.seed < 2**64, "seed", self.seed, "needs to lie in [0, 2^64)")
        check_strategy(self.server, self.local)
        check_waiting(self.server, self.engine)
        check_personal(self.server, self.personal)
        check_dual(self.lora, self.personal)
        check_privacy(self.server, self.privacy)
        check_codec(self.server, self.codec)
        horizon = self.schedule_rounds
        require(horizon is None or horizon >= 1, "schedule_rounds", horizon, "needs at least 1")
        check_schedule(self.local, self.server.strategy, self.rounds, horizon or self.rounds)
        check_threads(self.threads)

    @property
    def dialled(self) -> bool:
        """Whether the agents are those of organisations, which dial in and bring their own text."""
        return self.engine == "flower" and self.flower.roster is not None
