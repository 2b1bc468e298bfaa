"""Modules: what a network is built of. Names, arguments and `state_dict` are PyTorch's."""

# isort: off
# fmt: off
from .module import (
    Module as Module, ModuleDict as ModuleDict, ModuleList as ModuleList, Parameter as Parameter,
    Sequential as Sequential,
)
from .layers import (
    Linear as Linear, Conv1d as Conv1d, Conv2d as Conv2d, ConvTranspose2d as ConvTranspose2d,
    BatchNorm1d as BatchNorm1d, BatchNorm2d as BatchNorm2d, LayerNorm as LayerNorm,
    RMSNorm as RMSNorm, GroupNorm as GroupNorm, Embedding as Embedding, PReLU as PReLU,
    Identity as Identity, Flatten as Flatten, Unflatten as Unflatten, Dropout as Dropout,
    MaxPool1d as MaxPool1d, MaxPool2d as MaxPool2d, AvgPool1d as AvgPool1d, AvgPool2d as AvgPool2d,
    AdaptiveAvgPool2d as AdaptiveAvgPool2d, ReLU as ReLU, ReLU6 as ReLU6, LeakyReLU as LeakyReLU,
    ELU as ELU, SELU as SELU, CELU as CELU, GELU as GELU, SiLU as SiLU, Mish as Mish,
    Softplus as Softplus, Softsign as Softsign, Sigmoid as Sigmoid, Tanh as Tanh,
    Hardsigmoid as Hardsigmoid, Hardswish as Hardswish, Hardtanh as Hardtanh,
    LogSigmoid as LogSigmoid, Tanhshrink as Tanhshrink, Threshold as Threshold, GLU as GLU,
    Softmax as Softmax, LogSoftmax as LogSoftmax, Softmin as Softmin,
    SquaredErrorLoss as SquaredErrorLoss, MSELoss as MSELoss, L1Loss as L1Loss,
    SmoothL1Loss as SmoothL1Loss, HuberLoss as HuberLoss, CrossEntropyLoss as CrossEntropyLoss,
    SigmoidCrossEntropyLoss as SigmoidCrossEntropyLoss,
    NLLLoss as NLLLoss, BCELoss as BCELoss, BCEWithLogitsLoss as BCEWithLogitsLoss,
    KLDivLoss as KLDivLoss, PoissonNLLLoss as PoissonNLLLoss, GaussianNLLLoss as GaussianNLLLoss,
    HingeEmbeddingLoss as HingeEmbeddingLoss, SoftMarginLoss as SoftMarginLoss,
    MultiMarginLoss as MultiMarginLoss, MultiLabelSoftMarginLoss as MultiLabelSoftMarginLoss,
    MarginRankingLoss as MarginRankingLoss, CosineEmbeddingLoss as CosineEmbeddingLoss,
    TripletMarginLoss as TripletMarginLoss, FocalLoss as FocalLoss, AMSoftmaxLoss as AMSoftmaxLoss,
    ArcFaceLoss as ArcFaceLoss,
)
from .recurrent import (
    GRU as GRU, LSTM as LSTM, RNN as RNN,
)
from .transformer import (
    MultiheadAttention as MultiheadAttention, TransformerEncoderLayer as TransformerEncoderLayer,
)
