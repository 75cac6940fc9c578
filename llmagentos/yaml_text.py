"""YAML as people write it: every name once, and neither repeated nor nested without end."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import yaml

from llmagentos.errors import SettingError

MOST_VALUES = 1_000_000
"""Names and values in a text, those behind an alias counted wherever it stands."""

LONGEST_LIST = 120
"""Letters of the names that a complaint tells."""


def read_yaml(text: str, load: Callable[[str], Any] = yaml.safe_load) -> Any:
    """What the text says.

    Raises ``SettingError`` where a mapping has a name twice, of which one were lost, or where
    aliases make too much of it, and ``yaml.YAMLError`` for all that cannot be read.
    """
    try:
        for count, node in enumerate(_nodes(yaml.compose(text, yaml.SafeLoader))):
            if count >= MOST_VALUES:
                raise SettingError(f"more than {MOST_VALUES} values; write them without aliases")
            if isinstance(node, yaml.MappingNode):
                _check_names(node)
        return load(text)
    except RecursionError:
        raise yaml.YAMLError("it is nested too deeply") from None
    except (AttributeError, KeyError, ValueError) as error:  # of PyYAML, where a tag says too much
        raise yaml.YAMLError(f"a value is not of the type that it says: {error}") from None


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """The nodes, each as often as it is reached."""
    waiting = [root] if root else []
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, yaml.MappingNode):
            waiting += chain.from_iterable(node.value)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


def _check_names(node: yaml.MappingNode) -> None:
    names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    twice = next((name for name, times in Counter(names).items() if times > 1), None)
    if twice is not None:
        known = ", ".join(names)[:LONGEST_LIST]
        raise SettingError(f"{twice!r} is there twice in {{{known}}}; rename one")
