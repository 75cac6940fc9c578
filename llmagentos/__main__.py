"""One door to the programs: ``llmagentos status`` is ``python -m llmagentos.recipes.status``."""

import difflib
import runpy
import sys
from importlib.metadata import version

PROGRAMS = {
    "fedavg_lora": "tune a model over private texts by federated averaging",
    "fedprox_lora": "the same, with local training pulled to the global adapter",
    "fedopt_lora": "the same, with an optimizer at the server",
    "evaluate": "how well an adapter predicts held-out text",
    "export": "an adapter merged into a full model",
    "generate": "an answer with and without an adapter",
    "enrol": "keys, certificates, and who may take part",
    "terms": "what the agents of a run must know",
    "status": "how far a run is",
}


def main() -> int:
    """Run the program that the first word names; its exit code, or 2 where there is none."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    known = name.replace("-", "_")
    if name in ("-h", "--help"):
        print("usage: llmagentos [--version] PROGRAM [--help]\n")
        print("\n".join(f"  {program:<14}{says}" for program, says in PROGRAMS.items()))
        return 0
    if name in ("-V", "--version"):
        print(f"llmagentos {version('llmagentos')}")
        return 0
    if known not in PROGRAMS:
        near = difflib.get_close_matches(known, PROGRAMS, n=1)
        hint = f"did you mean {near[0]}?" if near else "see llmagentos --help"
        print(f"error: unknown program {name}; {hint}", file=sys.stderr)
        return 2
    sys.argv = sys.argv[1:]
    runpy.run_module(f"llmagentos.recipes.{known}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
