"""Template-based decoders, and the space of them.

Nekrasov, Shen and Reid, "Template-Based Automatic Search of Compact Semantic
Segmentation Architectures", WACV 2020.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from .architecture import Architecture, refuse, refuse_counts
from .primitives import BLUE, GREY, ORANGE, WHITE, YELLOW
from .space import Choose, Space

NUM_FEATURES = 2  # of the backbone, which are the first nodes
REPEATS = (1, 2, 3, 4)


class Operation(NamedTuple):
    """An operation on one input."""

    kind: str  #: what builds it
    label: str  #: in drawings
    color: str  #: in drawings, as matplotlib reads it
    kernel: int = 1
    rate: int = 1


# In the order of their numbers in the authors' code.
OPERATIONS = {
    'sep_conv_3x3': Operation('sep_conv', 'sep conv 3×3', BLUE, 3),
    'sep_conv_5x5': Operation('sep_conv', 'sep conv 5×5', BLUE, 5),
    'global_average_pool': Operation('global_pool', 'global pool', WHITE),
    'max_pool_3x3': Operation('max_pool', 'max pool 3×3', YELLOW, 3),
    'sep_conv_5x5_dil6': Operation(
        'sep_conv', 'sep conv 5×5, rate 6', ORANGE, 5, 6
    ),
    'skip_connect': Operation('skip', 'skip', GREY),
}
#: Their labels in drawings: a weighted sum, and a concatenation.
AGGREGATIONS = dict(psum='sum', cat='cat')


class Template(NamedTuple):
    """Two operations, and what makes one of their outputs."""

    #: Names in :data:`OPERATIONS`, on the first and on the second input.
    first: str
    second: str
    #: ``'psum'`` or ``'cat'``.
    aggregation: str


class TemplateLayer(NamedTuple):
    """One layer: a template, applied to two earlier nodes."""

    #: 0 and 1 are the features, fine and coarse, 2 + i is layer i.
    inputs: tuple[int, int]
    template: int
    #: After the first time it reads the second input and what it made, then
    #: always the last two that it made.
    repeats: int
    #: 2 halves the resolution and doubles the channels.
    stride: int

    def content(self) -> dict:
        """What it has, as in a file."""
        return dict(self._asdict(), inputs=list(self.inputs))


@dataclass(frozen=True)
class TemplateArchitecture(Architecture):
    """Templates and layers; a UserError where a value is not allowed."""

    schema: ClassVar[str] = 'mmseg_autodeeplab/templates'

    templates: tuple[Template, ...]
    layers: tuple[TemplateLayer, ...]
    provenance: Mapping = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name in ('templates', 'layers'):
            found = getattr(self, name)
            if not isinstance(found, (list, tuple)) or not found:
                refuse(name, found, f'a list of {name}, not empty')
        templates, layers = self.templates, self.layers
        parsed = tuple(_parse_template(t, i) for i, t in enumerate(templates))
        object.__setattr__(self, 'templates', parsed)
        sizes = len(templates), len(layers)
        parsed = tuple(
            _parse_layer(layer, i, *sizes) for i, layer in enumerate(layers)
        )
        object.__setattr__(self, 'layers', parsed)
        super().__post_init__()

    @classmethod
    def from_vector(
        cls, vector: Sequence[int], num_templates: int = 3
    ) -> 'TemplateArchitecture':
        """Build from the numbers of the authors' code.

        Args:
            vector (Sequence[int]): First operation, second operation and
                aggregation of each template; then first input, second input,
                template, repeats less 1 and the stride's power of 2 of each
                layer. 44 for 3 templates and 7 layers.

        Raises:
            UserError: They are too few or too many, or one is not allowed.
        """
        length = len(vector) - 3 * num_templates
        num_layers, rest = divmod(length, 5)
        if num_layers < 1 or rest:
            allowed = f'{3 * num_templates} of {num_templates} templates'
            refuse('the length', len(vector), f'{allowed} and 5 of each layer')
        numbers = enumerate(vector)

        def choose(name: str, options: Sequence, weights: Any = None) -> Any:
            i, number = next(numbers)
            if type(number) is not int or number not in range(len(options)):
                allowed = f'{name}, from 0 to {len(options) - 1}'
                refuse(f'vector[{i}]', number, allowed)
            return options[number]

        return TemplateSpace(num_templates, num_layers).draw(choose)

    def to_vector(self) -> list[int]:
        """The numbers that :meth:`from_vector` takes."""
        space, numbers = self.space(), []
        known = space.choices(self)

        def choose(name: str, options: Sequence, weights: Any = None) -> Any:
            numbers.append(options.index(known[name]))
            return known[name]

        space.draw(choose)
        return numbers

    def content(self) -> dict:
        """Templates and layers, as in a config."""
        return dict(
            templates=[list(template) for template in self.templates],
            layers=[layer.content() for layer in self.layers],
        )

    def describe(self) -> str:
        """One short line per template and per layer, for logs."""
        lines = [
            f'template {i}: {t.aggregation}({t.first}, {t.second})'
            for i, t in enumerate(self.templates)
        ]
        for node, layer in enumerate(self.layers, NUM_FEATURES):
            first, second = layer.inputs
            lines.append(
                f'{node}: template {layer.template} of {first} and {second}, '
                f'{layer.repeats} times, stride {layer.stride}'
            )
        return '\n'.join(lines)

    @property
    def loose_ends(self) -> list[int]:
        """The nodes of layers that no layer reads: they are the output."""
        read = {node for layer in self.layers for node in layer.inputs}
        nodes = range(NUM_FEATURES, NUM_FEATURES + len(self.layers))
        return [node for node in nodes if node not in read]

    def space(self) -> 'TemplateSpace':
        """All with as many templates and layers."""
        return TemplateSpace(len(self.templates), len(self.layers))


@dataclass(frozen=True)
class TemplateSpace(Space):
    """All ways to lay T templates out in L layers.

    Each choice is of one option of a list, in the order of the authors' code:
    3 of a template and 5 of a layer, of which the last has one option in the
    second half of the layers.
    """

    num_templates: int = 3
    num_layers: int = 7

    architecture: ClassVar[type] = TemplateArchitecture

    def __post_init__(self) -> None:
        refuse_counts(vars(self))

    def draw(self, choose: Choose) -> TemplateArchitecture:
        """Choose one template after another, then the layers."""
        operations, aggregations = list(OPERATIONS), list(AGGREGATIONS)
        templates = [
            Template(
                choose(f'op_{t}_0', operations),
                choose(f'op_{t}_1', operations),
                choose(f'aggregation_{t}', aggregations),
            )
            for t in range(self.num_templates)
        ]
        layers = []
        for i in range(self.num_layers):
            nodes = range(NUM_FEATURES + i)
            inputs = (
                choose(f'first_input_{i}', nodes),
                choose(f'second_input_{i}', nodes),
            )
            layers.append(
                TemplateLayer(
                    inputs,
                    choose(f'template_{i}', range(self.num_templates)),
                    choose(f'repeats_{i}', REPEATS),
                    choose(f'stride_{i}', strides_of(i, self.num_layers)),
                )
            )
        return TemplateArchitecture(templates, layers)

    def choices(self, architecture: TemplateArchitecture) -> dict[str, Any]:
        """What :meth:`draw` has to choose for an architecture."""
        found = {}
        for t, template in enumerate(architecture.templates):
            found[f'op_{t}_0'], found[f'op_{t}_1'] = template[:2]
            found[f'aggregation_{t}'] = template.aggregation
        for i, layer in enumerate(architecture.layers):
            found[f'first_input_{i}'], found[f'second_input_{i}'] = (
                layer.inputs
            )
            found[f'template_{i}'] = layer.template
            found[f'repeats_{i}'] = layer.repeats
            found[f'stride_{i}'] = layer.stride
        return found

    def count(self) -> int:
        """Number of architectures: 1.74e23 for 3 templates and 7 layers."""
        of_template = len(OPERATIONS) ** 2 * len(AGGREGATIONS)
        return of_template**self.num_templates * math.prod(
            (NUM_FEATURES + i) ** 2
            * self.num_templates
            * len(REPEATS)
            * len(strides_of(i, self.num_layers))
            for i in range(self.num_layers)
        )


def strides_of(layer: int, num_layers: int) -> tuple[int, ...]:
    """The strides that a layer may have: 2 in the first half alone."""
    return (1, 2) if layer < num_layers // 2 else (1,)


def _parse_template(found: Any, index: int) -> Template:
    name = f'templates[{index}]'
    if not isinstance(found, (list, tuple)) or len(found) != 3:
        refuse(name, found, 'two operations and an aggregation')
    for value, allowed in zip(found, (OPERATIONS, OPERATIONS, AGGREGATIONS)):
        if value not in list(allowed):
            refuse(f'{name}: a part', value, f'one of {", ".join(allowed)}')
    return Template(*found)


def _parse_layer(found, index, num_templates, num_layers):
    name = f'layers[{index}]'
    if isinstance(found, TemplateLayer):
        found = found._asdict()
    fields = TemplateLayer._fields
    if not isinstance(found, Mapping) or set(found) != {*fields}:
        refuse(name, found, f'an object with exactly {", ".join(fields)}')
    inputs, last = found['inputs'], NUM_FEATURES + index - 1
    if (
        not isinstance(inputs, (list, tuple))
        or len(inputs) != 2
        or not all(type(i) is int and 0 <= i <= last for i in inputs)
    ):
        refuse(f'{name}.inputs', inputs, f'two earlier nodes, of 0 to {last}')
    for field_name, allowed in dict(
        template=range(num_templates),
        repeats=REPEATS,
        stride=strides_of(index, num_layers),
    ).items():
        value = found[field_name]
        if type(value) is not int or value not in allowed:
            options = ' or '.join(map(str, allowed))
            refuse(f'{name}.{field_name}', value, options)
    return TemplateLayer(**dict(found, inputs=tuple(inputs)))
