"""The gradients of two programs as a careful person writes them in plain NumPy, from a derivation.

What a graph costs is the distance to this code: no objects, no checks, only arrays. The one trick
is to write into an array once its old contents are done with: activations and logits are
overwritten, and the probabilities become the gradient.
"""

import numpy as np


def cross_entropy(z, t):
    """The mean of -log softmax(z)[t] over the rows of z, and its gradient by z; z stays as it is.

    With s = Σ_k exp z_k, one row's loss is L = log s - z_t. Its derivative by z_j is
    exp(z_j) / s - [j = t]: the probability, less 1 at the label. The mean over n rows divides by n.
    To subtract the row's largest entry first changes neither, and exp cannot overflow.
    """
    p = z - z.max(axis=1, keepdims=True)
    return _from_shifted(p, t)


def _from_shifted(p, t):
    """The same, for rows whose largest entry is 0; p becomes the gradient."""
    n, rows = len(p), np.arange(len(p))
    at_label = p[rows, t]  # indexing copies, so this outlives the next line
    np.exp(p, out=p)
    s = p.sum(axis=1, keepdims=True)
    loss = (np.log(s[:, 0]) - at_label).mean()
    s *= n
    p /= s  # softmax / n
    p[rows, t] -= 1 / n
    return loss, p


def mlp(weights, x, t):
    """Loss and gradients of a network: x @ W + b, relu between the layers, then cross-entropy.

    `weights` is [W, b, W, b, ...], W of shape (inputs, outputs). Layer by layer, backwards, dz
    being the gradient of the loss by z = h @ W + b:

        dW = hᵀ dz    z_nj = Σ_i h_ni W_ij + b_j, so W_ij meets h_ni in every row n of the batch
        db = Σ_n dz_n    b_j enters every row with slope 1
        dh = dz Wᵀ    h_ni meets W_ij in every output j
        dz of the layer before = dh where h > 0, else 0    the slope of relu at its own result
    """
    matrices, biases, inputs = weights[::2], weights[1::2], [x]
    for w, b in zip(matrices, biases, strict=True):
        z = inputs[-1] @ w
        z += b
        if w is not matrices[-1]:
            inputs.append(np.maximum(z, 0, out=z))
    z -= z.max(axis=1, keepdims=True)
    loss, dz = _from_shifted(z, t)
    gradients = []
    for h, w in zip(reversed(inputs), reversed(matrices), strict=True):
        gradients += [dz.sum(axis=0), h.T @ dz]
        if h is not x:  # nobody asks for the gradient by the data
            dz = dz @ w.T
            dz *= h > 0
    return loss, gradients[::-1]


def sgd(weights, gradients, lr):
    """w ← w - lr g, in place; the gradients are overwritten, since the next step makes new ones."""
    for w, g in zip(weights, gradients, strict=True):
        g *= lr
        w -= g
