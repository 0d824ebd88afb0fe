import numpy as np
import torch
from scipy.special import log_softmax

from napari_ectkd.training.objective import Batch, HardLabels


def test_hard_labels_are_smoothed_cross_entropy():
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 3, 1, 1, 2])
    batch = Batch(torch.zeros(5, 1, 2, 2, 2), targets, torch.arange(5))
    for smoothing in (0.0, 0.2):
        terms = HardLabels(smoothing)(lambda _: logits, batch)
        wanted = np.eye(4)[targets] * (1 - smoothing) + smoothing / 4
        expected = -(wanted * log_softmax(logits.numpy(), axis=1)).sum(axis=1).mean()
        np.testing.assert_allclose(float(terms.loss), expected, rtol=1e-5)
        assert torch.equal(terms.logits, logits)
