"""Tests of the stages and blocks that are derived from a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from layertap_server.graph import Structure, at_size, read, structure_of
from layertap_server.graph.network_blocks import Modules, block_ends
from layertap_server.graph.stages import stage_ends
from layertap_server.graph.trunk import find_trunk
from tests.paths import ROOT

CASES = ROOT / "tests" / "data" / "cases"

CNN = """
<ir_version: 8, opset_import: ["" : 17]>
cnn (float[N, 3, 32, 32] image) => (float[N, 4] scores) {{
    {body}
    pooled = GlobalAveragePool ({last})
    vector = Flatten (pooled)
    scores = MatMul (vector, w_scores)
}}
"""


def conv(output: str, source: str, *, stride: int = 1, size: int = 1) -> str:
    """Return a convolution of 4 to 4 channels whose weight is ``w_<output>``."""
    pad = size // 2
    return (
        f"{output} = Conv <kernel_shape = [{size}, {size}], strides = [{stride}, {stride}], "
        f"pads = [{pad}, {pad}, {pad}, {pad}]> ({source}, w_{output})"
    )


def network(nodes: list[str], last: str, weights: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    """Return a classifier of the given nodes, whose values do not matter."""
    model = parser.parse_model(CNN.format(body="\n    ".join(nodes), last=last))
    for name, shape in {**weights, "w_scores": (4, 4)}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    return model


def convolutions(*specs: tuple[str, str, int, int]) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    """Return convolutions of (output, source, stride, size) and the shapes of their weights."""
    nodes = [conv(output, source, stride=stride, size=size) for output, source, stride, size in specs]
    weights: dict[str, tuple[int, ...]] = {
        f"w_{output}": (4, 3 if source == "image" else 4, size, size) for output, source, _, size in specs
    }
    return nodes, weights


def named(model: onnx.ModelProto, paths: dict[str, str]) -> onnx.ModelProto:
    """Name the nodes after module paths, by their outputs."""
    for node in model.graph.node:
        path = paths.get(node.output[0])
        if path is not None:
            parts = path.split(".")
            node.name = "/" + "/".join(".".join(parts[: count + 1]) for count in range(len(parts))) + "/" + node.op_type
    return model


def derive(model: onnx.ModelProto, folder: Path) -> Structure:
    return structure_of(read(model, folder))


def test_a_sum_that_closes_a_block_ends_a_stage_and_an_expansion_does_not(tmp_path: Path) -> None:
    """The convolution ``wide`` is in the module of the convolution with a stride: the stage before ends without it."""
    nodes, weights = convolutions(
        ("stem", "image", 1, 3), ("a", "stem", 1, 1), ("b", "a", 1, 1), ("wide", "sum1", 1, 1),
        ("down", "wide", 2, 3), ("c", "down", 1, 1), ("d", "c", 1, 1),
    )  # fmt: skip
    body = [*nodes[:3], "sum1 = Add (stem, b)", *nodes[3:], "sum2 = Add (down, d)"]
    paths = {
        "stem": "stem", "a": "blocks.0.0.one", "b": "blocks.0.0.two", "sum1": "blocks.0.0",
        "wide": "blocks.1.0.wide", "down": "blocks.1.0.down", "c": "blocks.1.1.one", "d": "blocks.1.1.two",
        "sum2": "blocks.1.1",
    }  # fmt: skip
    structure = derive(named(network(body, "sum2", weights), paths), tmp_path)
    assert structure.stages == ("sum1", "sum2")
    assert structure.blocks == ("sum1", "down", "sum2")


def test_a_gate_beside_the_trunk_is_no_step_of_it(tmp_path: Path) -> None:
    nodes, weights = convolutions(("first", "image", 2, 3), ("squeezed", "mean", 1, 1), ("second", "gated", 2, 3))
    body = [nodes[0], "mean = GlobalAveragePool (first)", nodes[1], "gate = Sigmoid (squeezed)",
            "gated = Mul (first, gate)", nodes[2]]  # fmt: skip
    graph = read(network(body, "second", weights), tmp_path)
    steps = find_trunk(graph.proto.graph, graph.types, "image")
    assert [step.name for step in steps] == ["first", "gated", "second"]


def test_the_trunk_of_a_decoder_leads_to_its_deepest_map(tmp_path: Path) -> None:
    nodes, weights = convolutions(
        ("high", "image", 2, 3), ("low", "high", 2, 3), ("bottom", "low", 1, 1), ("merged", "joined", 1, 1)
    )
    up = 'up = Resize <mode = "nearest"> (bottom, , scales)'
    body = ["scales = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()",
            *nodes[:3], up, "joined = Add (high, up)", nodes[3]]  # fmt: skip
    assert derive(network(body, "merged", weights), tmp_path).stages == ("high", "bottom")


def test_a_network_of_several_resolutions_side_by_side_has_no_stages(tmp_path: Path) -> None:
    nodes, weights = convolutions(
        ("high", "image", 2, 3), ("low", "high", 2, 3), ("own", "high", 1, 1), ("deeper", "joined", 4, 3)
    )
    up = 'up = Resize <mode = "nearest"> (low, , scales)'
    body = ["scales = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()",
            *nodes[:3], up, "joined = Add (own, up)", nodes[3]]  # fmt: skip
    deeper = derive(network([*body, *convolutions(("deepest", "deeper", 2, 3))[0]], "deepest",
                            {**weights, "w_deepest": (4, 4, 3, 3)}), tmp_path)  # fmt: skip
    assert deeper == Structure()
    pyramid = [*body[:-1], *convolutions(("again", "joined", 2, 3))[0]]
    assert derive(network(pyramid, "again", {**weights, "w_again": (4, 4, 3, 3)}), tmp_path).stages == ("high", "low")


@pytest.mark.parametrize(
    ("merging", "has_stem"),
    [(["{at}.down = conv"], False), (["{at}.down = conv", "{at}.down.act = relu"], True), ([], True)],
    ids=["linear", "activated", "in blocks"],
)
def test_a_stem_before_layers_that_merge_patches_is_no_stage(
    merging: list[str], *, has_stem: bool, tmp_path: Path
) -> None:
    """Build a stem and three stages of two blocks, which begin with merging layers or with blocks of a stride."""
    specs, paths, names = [("stem", "image", 2, 3)], {"stem": "stem.conv"}, []
    source = "stem"
    for stage in range(3):
        at = f"stages.{stage}"
        if merging:
            specs.append((f"down{stage}", source, 2, 3))
            paths[f"down{stage}"] = f"{at}.down.conv"
            source = f"down{stage}"
        for block in range(2):
            stride = 2 if not merging and block == 0 else 1
            names.append((f"s{stage}b{block}", source, stride))
            source = f"s{stage}b{block}"
            specs.append(("", source, stage, block))
    nodes: list[str] = []
    weights: dict[str, tuple[int, ...]] = {}
    for name, before, stride, size in specs:
        if name:
            made, own = convolutions((name, before, stride, size))
            nodes, weights = [*nodes, *made], {**weights, **own}
            if len(merging) > 1 and name.startswith("down"):
                nodes.append(f"{name}_act = Relu ({name})")
                paths[f"{name}_act"] = paths[name].replace("conv", "act")
            continue
        output, stage, block = before, stride, size
        given, step = next((source, step) for one, source, step in names if one == output)
        given = f"{given}_act" if len(merging) > 1 and given.startswith("down") else given
        made, own = convolutions((f"{output}a", given, step, 3), (f"{output}b", f"{output}a", 1, 3))
        side, side_weights = convolutions((f"{output}s", given, step, 1))
        nodes += [*made, *side, f"{output} = Add ({output}b, {output}s)"]
        weights = {**weights, **own, **side_weights}
        for part in ("a", "b", "s", ""):
            paths[f"{output}{part}"] = f"stages.{stage}.blocks.{block}.{part or 'add'}"
    model = named(network(nodes, "s2b1", weights), paths)
    stages = derive(model, tmp_path).stages
    assert stages == (("stem",) if has_stem else ()) + ("s0b1", "s1b1", "s2b1")


@pytest.mark.parametrize("pooled", [True, False])
def test_a_stem_of_several_strides_is_a_stage_only_before_a_pooling(*, pooled: bool, tmp_path: Path) -> None:
    specs = [("one", "image", 2, 3), ("two", "one", 2, 3), ("a", "two", 1, 1), ("b", "a", 1, 1), ("c", "sum1", 1, 1)]
    nodes, weights = convolutions(*specs, ("d", "c", 1, 1))
    if pooled:
        nodes[1] = "two = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (one)"
        del weights["w_two"]
    body = [*nodes[:4], "sum1 = Add (two, b)", *nodes[4:], "sum2 = Add (sum1, d)"]
    paths = {"one": "stem.one", "two": "stem.two", "a": "blocks.0.a", "b": "blocks.0.b", "sum1": "blocks.0",
             "c": "blocks.1.a", "d": "blocks.1.b", "sum2": "blocks.1"}  # fmt: skip
    structure = derive(named(network(body, "sum2", weights), paths), tmp_path)
    assert structure.stages == (("one", "sum2") if pooled else ("sum2",))
    assert structure.blocks == ("sum1", "sum2")


def test_without_module_paths_blocks_end_where_branches_join(tmp_path: Path) -> None:
    nodes, weights = convolutions(("stem", "image", 1, 3), ("a", "stem", 1, 1), ("b", "act", 1, 1))
    body = [*nodes[:2], "sum1 = Add (stem, a)", "act = Relu (sum1)", nodes[2], "sum2 = Add (act, b)"]
    structure = derive(network(body, "sum2", weights), tmp_path)
    assert structure == Structure(stages=("sum2",), blocks=("act", "sum2"))


def test_separable_convolutions_inside_residual_blocks_are_no_blocks(tmp_path: Path) -> None:
    """Build an Xception: each block has numbered layers of two convolutions; the last block has no shortcut."""
    nodes, weights = convolutions(("stem", "image", 2, 3))
    paths, source = {"stem": "stem.conv"}, "stem"
    for block in range(3):
        before = source
        for layer in (1, 2):
            for part, size in (("dw", 3), ("pw", 1)):
                output = f"b{block}{part}{layer}"
                stride = 2 if (layer, part) == (1, "dw") and block < 2 else 1
                made, own = convolutions((output, source, stride, size))
                nodes, weights, source = [*nodes, *made], {**weights, **own}, output
                paths[output] = f"blocks.{block}.stack.conv{layer}.{part}"
        if block < 2:
            made, own = convolutions((f"b{block}skip", before, 2, 1))
            nodes, weights = [*nodes, *made, f"sum{block} = Add ({source}, b{block}skip)"], {**weights, **own}
            source = f"sum{block}"
            paths |= {f"b{block}skip": f"blocks.{block}.skip", source: f"blocks.{block}.add"}
    structure = derive(named(network(nodes, source, weights), paths), tmp_path)
    assert structure.blocks == ("sum0", "sum1", "b2pw2")
    assert structure.stages == ("stem", "sum0", "b2pw2")


@pytest.mark.parametrize(("module", "end"), [("features.block{}", "sum2"), ("features.group{}.block1", "act")])
def test_a_norm_after_a_flat_list_of_blocks_belongs_to_the_classifier(module: str, end: str, tmp_path: Path) -> None:
    nodes, weights = convolutions(("a", "image", 2, 1), ("b", "a", 1, 1), ("c", "b", 1, 1), ("d", "sum1", 1, 1),
                                  ("e", "d", 1, 1))  # fmt: skip
    body = [*nodes[:3], "sum1 = Add (a, c)", *nodes[3:], "sum2 = Add (sum1, e)",
            "norm = BatchNormalization (sum2, w_one, w_one, w_one, w_one)", "act = Relu (norm)"]  # fmt: skip
    paths = {"b": f"{module.format(1)}.b", "c": f"{module.format(1)}.c", "sum1": module.format(1), "a": "features.a",
             "d": f"{module.format(2)}.d", "e": f"{module.format(2)}.e", "sum2": module.format(2),
             "norm": "features.norm", "act": "features.norm.act"}  # fmt: skip
    structure = derive(named(network(body, "act", {**weights, "w_one": (4,)}), paths), tmp_path)
    assert structure == Structure(stages=(end,), blocks=("sum1", "sum2"))


def test_a_residual_block_without_a_number_after_the_last_one_belongs_to_the_stage(tmp_path: Path) -> None:
    nodes, weights = convolutions(("a", "image", 2, 3), ("b", "a", 1, 1), ("c", "b", 1, 1), ("d", "sum1", 1, 1),
                                  ("e", "d", 1, 1), ("f", "sum2", 1, 1), ("wide", "sum3", 1, 1))  # fmt: skip
    body = [*nodes[:3], "sum1 = Add (a, c)", *nodes[3:5], "sum2 = Add (sum1, e)", nodes[5], "sum3 = Add (sum2, f)",
            nodes[6], "act = Relu (wide)"]  # fmt: skip
    paths = {"a": "stem.a", "b": "repeat.0.b", "c": "repeat.0.c", "sum1": "repeat.0", "d": "repeat.1.d",
             "e": "repeat.1.e", "sum2": "repeat.1", "f": "last.f", "sum3": "last", "wide": "wide.conv",
             "act": "wide.act"}  # fmt: skip
    assert derive(named(network(body, "act", weights), paths), tmp_path).stages == ("act",)


@pytest.mark.parametrize("first", [True, False])
def test_networks_that_activate_before_they_convolve_have_stages_without_activation(
    *, first: bool, tmp_path: Path
) -> None:
    """Build an NFNet: a stem, two blocks of a stride, and a last convolution, each with an activation after it."""
    nodes, weights = convolutions(("stem", "image", 2, 3), ("wide", "sum1", 1, 1))
    paths = {"stem": "stem.conv", "stem_act": "stem.act", "wide": "final_conv", "act": "final_act"}
    body, source = [nodes[0], "stem_act = Relu (stem)"], "stem_act"
    for block in range(2):
        if first:
            body.append(f"act{block} = Relu ({source})")
            paths[f"act{block}"], source = f"stages.{block}.act", f"act{block}"
        made, own = convolutions((f"a{block}", source, 2, 3), (f"b{block}", f"a{block}", 1, 1),
                                 (f"c{block}", source, 2, 1))  # fmt: skip
        body, weights = [*body, *made, f"sum{block} = Add (b{block}, c{block})"], {**weights, **own}
        paths |= {f"{part}{block}": f"stages.{block}.{part}" for part in ("a", "b", "c", "sum")}
        source = f"sum{block}"
    model = named(network([*body, nodes[1], "act = Relu (wide)"], "act", weights), paths)
    stages = derive(model, tmp_path).stages
    assert stages == (("stem", "sum0", "wide") if first else ("stem_act", "sum0", "act"))


def test_a_network_without_maps_has_neither_stages_nor_blocks(tmp_path: Path) -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> flat (float[N, 3, 4, 4] image) '
    text += "=> (float[N, 48] y) { y = Flatten (image) }"
    assert derive(parser.parse_model(text), tmp_path) == Structure()


@pytest.mark.parametrize("size", [(64, 64), (50, 70)])
def test_stages_of_a_network_of_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    graph = at_size(read(onnx.load(CASES / "any_size_residual.onnx"), tmp_path), size)
    assert structure_of(graph).stages == ("layer1.1", "layer2.1", "layer3.1")


def test_the_transposed_input_of_keras_is_no_stage(tmp_path: Path) -> None:
    structure = derive(onnx.load(CASES / "keras.onnx"), tmp_path)
    names = [f"StatefulPartitionedCall/model/{name}/Relu:0" for name in ("activation", "activation_1")]
    assert structure.stages == tuple(names), "the layers that the framework returns, channels last as its images"
    assert not structure.blocks, "the sum with a bias joins no branches"


@pytest.mark.parametrize(("pooled", "stages"), [("last", ("one", "last")), ("second", ("first", "second"))])
def test_the_stages_of_a_network_have_one_layout(pooled: str, stages: tuple[str, ...], tmp_path: Path) -> None:
    """Build a network of channels-last images, in which the last map is turned back, or only the first one is."""
    model = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        keras (float[N, 32, 32, 3] image) => (float[N, 4] scores) {{
            front = Transpose <perm = [0, 3, 1, 2]> (image)
            first = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (front, w1)
            one = Transpose <perm = [0, 2, 3, 1]> (first)
            again = Transpose <perm = [0, 3, 1, 2]> (one)
            second = Conv <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (again, w2)
            last = Transpose <perm = [0, 2, 3, 1]> (second)
            mean = ReduceMean <axes = {[1, 2] if pooled == "last" else [2, 3]}, keepdims = 0> ({pooled})
            scores = MatMul (mean, w3)
        }}""")
    for name, shape in (("w1", (4, 3, 3, 3)), ("w2", (4, 4, 3, 3)), ("w3", (4, 4))):
        model.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    assert derive(model, tmp_path).stages == stages


def test_scores_of_each_position_are_no_stage(tmp_path: Path) -> None:
    graph = at_size(read(onnx.load(CASES / "line_layouts.onnx"), tmp_path), (8, 40))
    assert structure_of(graph).stages == ("r",)


def test_a_projection_behind_the_backbone_is_no_stage(tmp_path: Path) -> None:
    text = """(float[N, 3, 32, 32] x) => (float[N, 8, 8, 8] y) {
        a = Conv <strides = [2, 2], kernel_shape = [1, 1]> (x, w1) b = Relu(a) c = Conv(b, w2) d = Add(b, c)
        e = Conv <strides = [2, 2], kernel_shape = [1, 1]> (d, w3) f = Relu(e) g = Conv(f, w4) h = Add(f, g)
        y = Conv(h, w5) }"""
    shapes = {"w1": (8, 3), "w2": (8, 8), "w3": (8, 8), "w4": (8, 8), "w5": (8, 8)}
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> g {text}')
    for name, shape in shapes.items():
        weights = np.zeros((*shape, 1, 1), np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weights, name))
    paths = ["stages.0.down", "stages.0.act", "stages.0.conv", "stages.0", "stages.1.down", "stages.1.act"]
    for node, path in zip(model.graph.node, [*paths, "stages.1.conv", "stages.1", "../projection"], strict=True):
        node.name = f"/model/{path.replace('.', '/')}/{node.op_type}".replace("/model/../", "/")
        node.name = node.name.replace("/model/", "/model/backbone/")
    assert derive(model, tmp_path).stages == ("d", "h")


@pytest.mark.parametrize(
    ("name", "stages", "blocks"),
    [("swin", ["view_28", "view_55"], ["view_14", "view_28", "view_42", "view_55"]),
     ("convnext", ["add_70", "add_146", "add_222", "add_298"], ["add_70", "add_146", "add_222", "add_298"])],
)  # fmt: skip
def test_channels_last_networks_have_stages_and_blocks_that_are_maps(
    name: str, stages: list[str], blocks: list[str], tmp_path: Path
) -> None:
    graph = read(onnx.load(CASES / f"{name}.onnx"), tmp_path)
    modules = Modules(graph.proto.graph)
    steps = find_trunk(graph.proto.graph, graph.types, graph.main_input.name)
    assert [step.name for step in stage_ends(steps, modules)] == stages
    assert [step.name for step in block_ends(steps, modules)] == blocks
