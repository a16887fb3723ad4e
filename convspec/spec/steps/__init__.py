"""Steps: what stands between convolutions, as frozen specs in one vocabulary for all frameworks.

A :class:`Step` is made of fields, as a ``ConvSpec`` is; the package says which output shape, arrays and cost follow
from them, and how the step is called in plain words. ``convspec.reference.steps`` computes its values. An
operation that has no kind of its own is an :class:`Other`. Standard library only.

* pools: ``MaxPool AveragePool LpPool AdaptivePool GlobalPool``; resizing: ``Resize``
* moves: ``Identity Dropout Pad Slice Select PixelShuffle PixelUnshuffle ChannelShuffle Reshape Flatten Permute Squeeze
  Unsqueeze Expand Concat Split Embedding Parameter``
* arithmetic: ``Add Subtract Multiply Divide Maximum Minimum MatMul Linear Reduce``
* norms: ``BatchNorm LayerNorm RMSNorm GroupNorm InstanceNorm LpNorm LocalResponseNorm``
* activations: ``ReLU ThresholdedReLU LeakyReLU PReLU ELU CELU SELU GELU SiLU Mish Sigmoid HardSigmoid HardSwish Tanh
  TanhShrink Softplus Softsign Squareplus HardShrink SoftShrink Clip Pointwise Power``; ``Softmax GLU``
"""

from convspec.spec.steps.activations import (
    CELU,
    ELU,
    FUNCTIONS,
    GELU,
    GLU,
    SELU,
    Activation,
    Clip,
    HardShrink,
    HardSigmoid,
    HardSwish,
    LeakyReLU,
    Mish,
    Pointwise,
    Power,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    SoftShrink,
    Softsign,
    Squareplus,
    Tanh,
    TanhShrink,
    ThresholdedReLU,
)
from convspec.spec.steps.arithmetic import (
    Add,
    Divide,
    Elementwise,
    Linear,
    MatMul,
    Maximum,
    Minimum,
    Multiply,
    Other,
    Reduce,
    Subtract,
)
from convspec.spec.steps.fields import equal_times
from convspec.spec.steps.moves import (
    ChannelShuffle,
    Concat,
    Dropout,
    Embedding,
    Expand,
    Flatten,
    Identity,
    Pad,
    Parameter,
    Permute,
    PixelShuffle,
    PixelUnshuffle,
    Reshape,
    Select,
    Slice,
    Split,
    Squeeze,
    Unsqueeze,
)
from convspec.spec.steps.norms import (
    BatchNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    LocalResponseNorm,
    LpNorm,
    Norm,
    RMSNorm,
)
from convspec.spec.steps.pools import AdaptivePool, AveragePool, GlobalPool, LpPool, MaxPool, Pool, WindowPool
from convspec.spec.steps.resizing import Resize
from convspec.spec.steps.step import KINDS, Step, positive_axes, positive_axis

__all__ = [
    "CELU", "ELU", "FUNCTIONS", "GELU", "GLU", "KINDS", "SELU", "Activation", "AdaptivePool", "Add", "AveragePool",
    "BatchNorm", "ChannelShuffle", "Clip", "Concat", "Divide", "Dropout", "Elementwise", "Embedding", "Expand",
    "Flatten", "GlobalPool", "GroupNorm", "HardShrink", "HardSigmoid", "HardSwish", "Identity", "InstanceNorm",
    "LayerNorm", "LeakyReLU", "Linear", "LocalResponseNorm", "LpNorm", "LpPool", "MatMul", "MaxPool", "Maximum",
    "Minimum", "Mish", "Multiply", "Norm", "Other", "PReLU", "Pad", "Parameter", "Permute", "PixelShuffle",
    "PixelUnshuffle", "Pointwise", "Pool", "Power", "RMSNorm", "ReLU", "Reduce", "Reshape", "Resize", "Select",
    "SiLU", "Sigmoid", "Slice", "SoftShrink", "Softmax", "Softplus", "Softsign", "Split", "Squareplus", "Squeeze",
    "Step", "Subtract", "Tanh", "TanhShrink", "ThresholdedReLU", "Unsqueeze", "WindowPool", "equal_times",
    "positive_axes", "positive_axis",
]  # fmt: skip
