"""What an agent's change loses before it leaves: its length, and its last secrets to noise."""

import shutil
import stat
from dataclasses import replace

import numpy as np
import pytest

from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.engines.veiling import VeilingTrainer, noised
from llmagentos.errors import Refused, SettingError
from llmagentos.federation import run, task_for
from llmagentos.messages import answer
from llmagentos.settings import LocalSettings, PrivacySettings, RunSettings, ServerSettings
from tests.coded import ROSTER, SIZE, Homing, federation

NOISY = {"clip": 1.0, "noise": 0.5}


def asked(folder, **privacy):
    parts = federation(folder / "server", "fp32")
    task = task_for("north", "fit", parts.journal.state(), parts)
    return replace(task, settings={**task.settings, "privacy": privacy})


def sent(folder, task):
    ((update,),) = VeilingTrainer(Homing(), folder).fit([task])
    return update.vectors["delta"]


def test_a_change_is_shortened_to_the_norm_and_keeps_its_direction(tmp_path):
    plain, short = sent(tmp_path, asked(tmp_path)), sent(tmp_path, asked(tmp_path, clip=1.0))
    assert np.linalg.norm(plain) > 1
    assert np.linalg.norm(short) == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(short, plain / np.linalg.norm(plain), rtol=1e-5, atol=1e-9)


def test_a_short_change_and_one_without_a_limit_leave_as_they_are(tmp_path):
    (plain,) = next(Homing().fit([asked(tmp_path)]))
    for privacy in ({}, {"clip": 1e6}):
        np.testing.assert_array_equal(
            sent(tmp_path, asked(tmp_path, **privacy)), plain.vectors["delta"]
        )


def test_noise_has_the_deviation_that_was_asked_for():
    zeros = np.zeros(200_000, np.float32)
    drawn = noised(zeros, 0.25, np.random.default_rng(0))
    assert drawn.dtype == np.float32
    assert abs(drawn.mean()) < 5 * 0.25 / np.sqrt(len(zeros))
    assert drawn.std() == pytest.approx(0.25, rel=0.01)


def test_noise_is_measured_in_units_of_the_norm_that_a_change_may_have(tmp_path):
    plain = sent(tmp_path, asked(tmp_path, clip=0.25))
    noise = sent(tmp_path, asked(tmp_path, clip=0.25, noise=8.0)) - plain
    assert noise.std() == pytest.approx(8 * 0.25, rel=5 / np.sqrt(2 * SIZE))


def test_without_noise_no_secret_is_made(tmp_path):
    sent(tmp_path, asked(tmp_path, clip=1.0))
    assert not list(tmp_path.rglob("secret"))


def test_a_repeated_task_has_the_same_noise_and_no_other_task_has(tmp_path):
    task = asked(tmp_path, **NOISY)
    first = sent(tmp_path, task)
    np.testing.assert_array_equal(sent(tmp_path, task), first)
    shortened = sent(tmp_path, asked(tmp_path, clip=1.0))
    other = replace(task, vectors={"adapter": task.vectors["adapter"] + np.float32(1)})
    residual = {**task.vectors, "residual.1": task.vectors["adapter"]}
    others = [
        replace(task, round=2),
        replace(task, run="another"),
        replace(task, seed=task.seed + 1),
        replace(task, vectors=residual),
        other,
    ]
    noises = [first - shortened]
    for each in others:
        without = replace(each, settings={**each.settings, "privacy": {"clip": 1.0}})
        noises.append(sent(tmp_path, each) - sent(tmp_path, without))
    likeness = np.corrcoef(noises) - np.eye(len(noises))
    assert np.abs(likeness).max() < 6 / np.sqrt(SIZE)


def test_the_noise_is_of_a_secret_that_only_its_owner_reads(tmp_path):
    task = asked(tmp_path, **NOISY)
    here, there = sent(tmp_path / "here", task), sent(tmp_path / "there", task)
    assert (here != there).any()
    (secret,) = (tmp_path / "here").rglob("secret")
    assert len(secret.read_bytes()) == 32
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def noisy_run(folder, rounds):
    """The adapter's bytes after a run whose agents blur what they send."""
    parts = federation(folder, "int8")
    engine = InProcessEngine(with_memory(Homing(), folder / "agents"), ROSTER)
    fit = {**parts.plan.settings["fit"], "privacy": NOISY}
    plan = replace(parts.plan, rounds=rounds, settings={"fit": fit})
    list(run(replace(parts, engine=engine, plan=plan)))
    with parts.journal as journal:
        return journal.state().adapter.vector.tobytes()


def test_noise_is_the_same_after_a_resume_and_another_in_another_run(tmp_path):
    noisy_run(tmp_path / "once", rounds=1)
    shutil.copytree(tmp_path / "once", tmp_path / "again")
    resumed = {noisy_run(tmp_path / name, rounds=3) for name in ("once", "again")}
    assert len(resumed) == 1
    assert noisy_run(tmp_path / "another", rounds=3) not in resumed


def test_what_goes_beside_the_change_is_refused_under_a_limit(tmp_path):
    task = asked(tmp_path, clip=1.0)
    task = replace(task, settings={**task.settings, "beside": ["control"]})
    with pytest.raises(Refused, match="not what goes beside it: control"):
        sent(tmp_path, task)


def test_nothing_but_the_change_is_touched(tmp_path):
    class Telling(Homing):
        def update(self, task):
            delta = super().update(task).vectors["delta"]
            vectors = {"delta": delta, "moments.steps": np.ones(1, np.float32)}
            return answer(task, vectors=vectors, weight=7.0, metrics={"loss": 3.0})

    task = asked(tmp_path, **NOISY)
    ((update,),) = VeilingTrainer(Telling(), tmp_path).fit([task])
    assert (update.weight, update.metrics) == (7.0, {"loss": 3.0})
    assert update.vectors["moments.steps"].tolist() == [1]


@pytest.mark.parametrize(
    ("clip", "noise", "reason"),
    [
        (0.0, 0.0, "privacy.clip=0.0: needs to be above 0"),
        (float("nan"), 0.0, "privacy.clip=nan"),
        (1.0, -1.0, "privacy.noise=-1.0: needs 0 or more"),
        (None, 1.0, "privacy.noise=1.0: noise is measured in units of privacy.clip"),
    ],
)
def test_wrong_settings_are_named(clip, noise, reason):
    with pytest.raises(SettingError, match=reason):
        PrivacySettings(clip, noise)


def test_control_variates_and_clipping_are_refused_before_the_run():
    with pytest.raises(SettingError, match="'scaffold' sends control variates"):
        RunSettings(
            privacy=PrivacySettings(clip=1.0),
            local=LocalSettings(optimizer="sgd"),
            server=ServerSettings(strategy="scaffold", weighting="uniform"),
        )
