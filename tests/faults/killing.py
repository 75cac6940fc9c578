"""Runs that are killed again and again at named points, until they end by themselves."""

import json
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.crashing import ended
from tests.faults.crash_points import arm, count
from tests.faults.worlds import Points, World, outcome


class Kills:
    """Kills of one world, drawn from a seed and told in ``tried``."""

    def __init__(self, world: World, folder: Path, seed: int, tried: Counter[str]) -> None:
        self.world, self.folder, self.tried = world, folder, tried
        self.random = Random(seed)
        self.points = {
            f"{whom} killed: {name}": point
            for whom, table in world.points.items()
            for name, point in table.items()
        }

    def survived(self, kills: int) -> int:
        """How many kills were tried, at least so many; every run came to the same outcome."""
        expected, visits = self.undisturbed()
        missed = set(self.points) - set(visits)
        assert not missed, f"no run comes by {sorted(missed)}"
        first, done = self.deck(), 0
        while done < kills:
            run = self.folder / f"after-{done}"
            done += self.killed_run(run, next(first), visits)
            assert outcome(run) == expected
            shutil.rmtree(run)
        return done

    def undisturbed(self):
        """The outcome of a run that nobody kills, and how often it comes by each point."""
        run = self.folder / "undisturbed"
        assert ended(counted, self.world, run, self.points) == 0
        return outcome(run), Counter(json.loads((run / "visits.json").read_text()))

    def deck(self) -> Iterator[str]:
        """All points in random order, again and again."""
        while True:
            yield from self.random.sample(sorted(self.points), len(self.points))

    def killed_run(self, run: Path, first: str, visits: Counter[str]) -> int:
        """How often a run was killed; the first of the kills is at a point that it has to reach."""
        done, exitcode = 0, -signal.SIGKILL
        name, visit = first, self.random.randrange(visits[first])
        while exitcode != 0:
            exitcode = ended(killed, self.world, run, self.points[name], visit)
            assert exitcode in (0, -signal.SIGKILL)
            assert done or exitcode, f"{name}, visit {visit}, was not reached"
            if exitcode:
                self.tried[name] += 1
                done += 1
            name = self.random.choice(sorted(self.points))
            visit = self.random.randrange(1 + visits[name] // 2)
        return done


def counted(world: World, run: Path, points: Points) -> None:
    reached = count(points)
    world.play(run)
    (run / "visits.json").write_text(json.dumps(reached))


def killed(world: World, run: Path, point, visit: int) -> None:
    arm(point, visit)
    world.play(run)
