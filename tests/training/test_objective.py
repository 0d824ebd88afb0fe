import numpy as np
import torch
from scipy.special import log_softmax

from napari_ectkd.dataset.subtomograms import NO_TARGET
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


def test_a_subtomogram_without_a_label_adds_nothing():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    volumes, index = torch.zeros(4, 1, 2, 2, 2), torch.arange(4)
    some = Batch(volumes, torch.tensor([1, NO_TARGET, 2, NO_TARGET]), index)
    objective = HardLabels(0.1)
    found = objective(lambda _: logits, some).loss
    labeled = Batch(volumes[:2], torch.tensor([1, 2]), index[:2])
    expected = objective(lambda _: logits[[0, 2]], labeled).loss * 2 / 4
    torch.testing.assert_close(found, expected)
    nobody = Batch(volumes, torch.full((4,), NO_TARGET), index)
    assert float(objective(lambda _: logits, nobody).loss) == 0
