"""Read YAML as DVC does, by the rules of YAML 1.2: 1e-5 is a number, 010 is ten, `on` and 1:30 are strings.

PyYAML follows YAML 1.1, where 1e-5 is a string, 010 is eight, `on` is true and 1:30 is ninety.
"""

import re
from typing import Any

import yaml

from lenet.errors import PipelineError

# Type, pattern and possible first characters of a plain scalar, as in ruamel.yaml, which DVC uses.
_FLOAT = (
    r"[-+]?[0-9][0-9_]*(\.[0-9_]*([eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)|[-+]?\.[0-9_]+([eE][-+][0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)
_RULES = [
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("float", _FLOAT, "-+.0123456789"),
    ("int", r"[-+]?(0b[01_]+|0o?[0-7_]+|[0-9_]+|0x[0-9a-fA-F_]+)", "-+0123456789"),
]


class _Loader(yaml.CSafeLoader):
    # PyYAML's own rules for null, dates and merged keys are kept.
    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it so
        first: [(tag, rule) for tag, rule in rules if tag.rpartition(":")[2] not in ("bool", "int", "float")]
        for first, rules in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node)).replace("_", "")
        return int(text, 0 if text.lstrip("-+")[:2] in ("0b", "0o", "0x") else 10)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if not key.tag.endswith(":merge")]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is duplicated", node.start_mark)
        return super().construct_mapping(node, deep)


for _name, _pattern, _first in _RULES:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"({_pattern})$"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int)


def load(data: bytes, name: str) -> Any:
    """Return the content of the YAML `data`; raise PipelineError, which mentions `name`, if it is invalid."""
    try:
        depth = 0
        for event in yaml.parse(data.decode(), yaml.CSafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > 100:  # PyYAML crashes at a few thousand
                raise yaml.YAMLError("it is nested more than 100 levels deep")
        return yaml.load(data.decode(), _Loader)  # noqa: S506 - _Loader is a safe loader
    # PyYAML also raises Python's own errors, for text such as 2001-99-99, !!bool maybe or [[[[…
    except (
        yaml.YAMLError,
        ValueError,
        LookupError,
        ArithmeticError,
        TypeError,
        AttributeError,
        RecursionError,
    ) as error:
        raise PipelineError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None
