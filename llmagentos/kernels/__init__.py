"""The arithmetic of a round over flat vectors: the door to the compiled extension.

Every function takes NumPy arrays, and but for ``ring_sum`` torch tensors. Averages, steps and
``inspect`` are done on a CUDA device where the anchor or the first row is a tensor there and the
CUDA twin was built: the others have to be beside it, and the results are tensors. All else copies
the tensors that it reads to the host; what it writes has to lie there. ``reference`` says in plain
NumPy what each kernel means; ``native`` says whether the compiled twin, which gives the same bits,
was loaded.
"""

from llmagentos.kernels.averaging import (
    Pass,
    RowStats,
    average_step,
    inspect,
    weighted_sum,
)
from llmagentos.kernels.clipping import Clipped, clip_factor, clipped
from llmagentos.kernels.fused import StepPass, average_adaptive_step, average_momentum_step
from llmagentos.kernels.order import MOST_ROWS, median, trimmed_mean
from llmagentos.kernels.pairs import centred_gram, gram, squared_distances
from llmagentos.kernels.ring import ring_sum
from llmagentos.kernels.steps import (
    Adaptive,
    Momentum,
    adagrad_step,
    adam_step,
    momentum_step,
    proximal,
    yogi_step,
)
from llmagentos.kernels.training import AdamW, train_step
from llmagentos.kernels.twin import native

__all__ = [
    "MOST_ROWS",
    "AdamW",
    "Adaptive",
    "Clipped",
    "Momentum",
    "Pass",
    "RowStats",
    "StepPass",
    "adagrad_step",
    "adam_step",
    "average_adaptive_step",
    "average_momentum_step",
    "average_step",
    "centred_gram",
    "clip_factor",
    "clipped",
    "gram",
    "inspect",
    "median",
    "momentum_step",
    "native",
    "proximal",
    "ring_sum",
    "squared_distances",
    "train_step",
    "trimmed_mean",
    "weighted_sum",
    "yogi_step",
]
