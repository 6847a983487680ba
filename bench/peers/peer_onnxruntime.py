# SPDX-License-Identifier: Apache-2.0
"""The layer as an ONNX graph in ONNX Runtime: as the Keras layer computes it, and with Luong's matrix folded into the query."""
import functools
import sys

import numpy as np
import onnxruntime as ort
from onnx import numpy_helper, parser

from protocol import serve, weight_shapes

SCORES = {
    "luong": {
        "as upstream": """hw = MatMul (h, luong_w)
                          last_column = Unsqueeze (last, axis_2)
                          e_column = MatMul (hw, last_column)""",
        "folded": """w_t = Transpose <perm = [1, 0]> (luong_w)
                     q = MatMul (last, w_t)
                     q_column = Unsqueeze (q, axis_2)
                     e_column = MatMul (h, q_column)""",
    },
    "bahdanau": {
        "as upstream": """a1 = MatMul (last, bahdanau_w1)
                          a1_row = Unsqueeze (a1, axis_1)
                          a2 = MatMul (h, bahdanau_w2)
                          sum = Add (a1_row, a2)
                          hidden = Tanh (sum)
                          e_column = MatMul (hidden, bahdanau_v)""",
    },
}
GRAPH = """<ir_version: 8, opset_import: ["": 17]>
layer (float[{case.batch}, {case.timesteps}, {case.features}] h) => (float[{case.batch}, {case.units}] output)
<int64 last_index = {{-1}}, int64[1] axis_1 = {{1}}, int64[1] axis_2 = {{2}}>
{{
    last = Gather <axis = 1> (h, last_index)
    {score}
    e = Squeeze (e_column, axis_2)
    p = Softmax <axis = 1> (e)
    p_row = Unsqueeze (p, axis_1)
    context_row = MatMul (p_row, h)
    context = Squeeze (context_row, axis_1)
    both = Concat <axis = 1> (context, last)
    linear = MatMul (both, w_c)
    output = Tanh (linear)
}}"""


class Call:
    """One graph with its input and output in place, so that a call copies nothing."""

    def __init__(self, case, score, tensors, options):
        model = parser.parse_model(GRAPH.format(case=case, score=score))
        model.graph.initializer.extend(numpy_helper.from_array(tensors[name], name) for name in weight_shapes(case))
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.h = ort.OrtValue.ortvalue_from_numpy(tensors["h"])
        self.output = ort.OrtValue.ortvalue_from_numpy(np.zeros((case.batch, case.units), np.float32))
        self.binding = session.io_binding()
        self.binding.bind_ortvalue_input("h", self.h)
        self.binding.bind_ortvalue_output("output", self.output)
        self.run = functools.partial(session.run_with_iobinding, self.binding)

    def __call__(self):
        self.run()
        return self.output.numpy()


def compile_variants(options, case, tensors):
    calls = {name: Call(case, score, tensors, options) for name, score in SCORES[case.score].items()}
    for call in calls.values():
        call()
    return calls


if __name__ == "__main__":
    session_options = ort.SessionOptions()
    session_options.intra_op_num_threads = int(sys.argv[1])
    serve("ONNX Runtime", ort.__version__, functools.partial(compile_variants, session_options), directions=["forward"])
