"""A model as an ONNX file of standard operations, compared with PyTorch in ONNX Runtime.

Shapes: W windows, N nodes, K neighbours.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnxscript import opset20 as op
from torch import Tensor
from torch.export import ExportedProgram

from kgt_lightning.exports.program import SIZES, TOLERANCE, picture

OPSET = 20

NEAR = 1e-5
"""Similarities that differ by less, relative to the largest of their row, are equal but for the order of summation."""


class Comparison(NamedTuple):
    """ONNX Runtime beside PyTorch for one picture."""

    height: int
    width: int
    difference: float
    """Largest of all values in 0..1, both with the neighbours that the file chose."""
    others: int
    """Nodes of which PyTorch chooses other neighbours, equally similar but for rounding."""
    nodes: int
    """Nodes that choose."""


def most_similar(nodes: Any, k: int) -> Any:
    """Standard operations in place of ``kgt::most_similar``.

    Of equal values TopK takes the one of the smaller index, as the Key-Graph Constructor does.
    """
    similarity = op.MatMul(nodes, op.Transpose(nodes, perm=[0, 2, 1]))
    least: Any = op.Constant(value_float=-math.inf)
    number: Any = op.Constant(value_ints=[k])
    _, index = op.TopK(op.Where(op.IsNaN(similarity), least, similarity), number, axis=-1)
    return op.Cast(index, to=onnx.TensorProto.INT32)


def to_onnx(program: ExportedProgram, about: Mapping[str, Any]) -> bytes:
    """Content of the file: ``input`` [1, C, height, width] to ``output``, both float32, and what is known about it."""
    table: dict[Callable[..., Any], Callable[..., Any]] = {torch.ops.kgt.most_similar.default: most_similar}
    for talkative in ("onnxscript", "onnx_ir", "torch.onnx"):  # of every constant that they fold
        logging.getLogger(talkative).setLevel(logging.ERROR)
    with torch.no_grad():
        made = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
            custom_translation_table=table,
            verbose=False,
        )
    assert made is not None
    model = made.model_proto
    for value in (model.graph.input[0], model.graph.output[0]):
        named = "" if value.name == "input" else "restored_"
        for place, side in ((2, "height"), (3, "width")):
            value.type.tensor_type.shape.dim[place].dim_param = f"{named}{side}"
    # Shapes in between are written in names that torch made up.
    del model.graph.value_info[:]
    onnx.helper.set_model_props(model, {key: str(value) for key, value in about.items()})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def compare(
    content: bytes, program: ExportedProgram, *, channels: int, sizes: Sequence[tuple[int, int]] = SIZES
) -> Iterator[Comparison]:
    """The file in ONNX Runtime beside PyTorch, a picture of each size.

    Two neighbours may be equally similar but for the order in which products are summed, and another choice is another
    picture. So PyTorch is given the choice of the file, which must be right but for rounding, and nodes that it would
    have chosen others for are counted.

    Raises:
        ValueError: if a picture differs by more than the tolerance, or a neighbour is none of the most similar.

    """
    model = onnx.load_from_string(content)
    chosen = [node.output[1] for node in model.graph.node if node.op_type == "TopK"]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in chosen)
    session = session_of(model.SerializeToString())
    graph = program.module()
    assert isinstance(graph, torch.fx.GraphModule)
    for height, width in sizes:
        image = picture(channels, height, width)
        restored, *indices = session.run(["output", *chosen], {"input": image.numpy()})
        pytorch = GivenNeighbours(graph, indices)
        with torch.no_grad():
            expected = pytorch.run(image)
        difference = float((torch.from_numpy(restored) - expected).abs().max())
        size = f"{height}x{width}"
        if not difference <= TOLERANCE:
            raise ValueError(f"ONNX Runtime differs from PyTorch by {difference:.2g} at {size}: nothing is written")
        if pytorch.error > NEAR:
            raise ValueError(
                f"ONNX Runtime chose neighbours at {size} that are less similar than others by"
                f" {pytorch.error:.2g} of the largest similarity: nothing is written"
            )
        yield Comparison(height, width, difference, pytorch.others, pytorch.nodes)


def session_of(content: bytes, sizes: Mapping[str, int] | None = None) -> onnxruntime.InferenceSession:
    """Session of ONNX Runtime on the CPU, open dimensions set by name."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, size in (sizes or {}).items():
        options.add_free_dimension_override_by_name(name, size)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class GivenNeighbours(torch.fx.Interpreter):
    """The program with neighbours that were chosen elsewhere; tells how good that choice was."""

    def __init__(self, graph: torch.fx.GraphModule, indices: Sequence[np.ndarray]) -> None:
        super().__init__(graph)
        self.indices = iter(indices)
        self.error = 0.0
        self.others = self.nodes = 0

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Result of one operation."""
        if target is not torch.ops.kgt.most_similar.default:
            return super().call_function(target, args, kwargs)
        nodes_WNC, _ = args
        index_WNK = torch.from_numpy(next(self.indices)).sort(-1).values
        for nodes_NC, index_NK in zip(nodes_WNC, index_WNK, strict=True):
            self._judge(nodes_NC.double(), index_NK)
        return index_WNK.to(torch.int32)

    def _judge(self, nodes_NC: Tensor, index_NK: Tensor) -> None:
        similarity_NN = nodes_NC @ nodes_NC.T
        least_N = similarity_NN.topk(index_NK.shape[-1]).values.amin(-1)
        shortfall_N = least_N - similarity_NN.gather(-1, index_NK).amin(-1)
        self.error = max(self.error, float((shortfall_N / similarity_NN.abs().amax(-1)).amax()))
        self.others += int((shortfall_N > 0).sum())
        self.nodes += len(nodes_NC)
