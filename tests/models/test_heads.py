from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from resight.errors import InputError
from resight.models.heads import SubCenterArcFace, absolute_margins, power_margins, spread_margins

counts_of_classes = st.lists(st.integers(1, 5000), min_size=2, max_size=12)


def make_head(margins: list[float], *, dim: int = 5, centres: int = 3, scale: float = 30.0) -> SubCenterArcFace:
    torch.manual_seed(0)
    return SubCenterArcFace(dim, torch.tensor(margins), centres=centres, scale=scale)


def naive_logits(head: SubCenterArcFace, embeddings: torch.Tensor, labels: torch.Tensor) -> list[list[float]]:
    """The formulas of the docstring, one number at a time, in Python's float64."""
    weight = head.weight.detach().double().view(head.n_classes, head.centres, -1).tolist()

    def cosine(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    rows = []
    for embedding, label in zip(embeddings.double().tolist(), labels.tolist(), strict=True):
        row = []
        for number in range(head.n_classes):
            cos = max(cosine(embedding, centre) for centre in weight[number])
            m = head.margins[number].item()
            if number == label:
                cos = math.cos(math.acos(cos) + m) if cos > math.cos(math.pi - m) else cos - m * math.sin(math.pi - m)
            row.append(cos * head.scale)
        rows.append(row)
    return rows


def naive_loss(head: SubCenterArcFace, embeddings: torch.Tensor, labels: torch.Tensor) -> float:
    losses = []
    for row, label in zip(naive_logits(head, embeddings, labels), labels.tolist(), strict=True):
        losses.append(math.log(sum(math.exp(logit) for logit in row)) - row[label])
    return sum(losses) / len(losses)


def test_agrees_with_a_naive_loop_in_logits_loss_and_gradient() -> None:
    head = make_head([0.1, 0.5, 0.3, 1.2], dim=3, centres=2)
    embeddings = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.arange(40) % 4
    cosines = head.cosines(embeddings).gather(1, labels[:, None])[:, 0]
    past_pi = cosines <= (math.pi - head.margins[labels]).cos()
    assert past_pi.any()  # both branches are taken
    assert not past_pi.all()

    logits = head(embeddings, labels)
    assert torch.allclose(logits, torch.tensor(naive_logits(head, embeddings, labels)), atol=2e-4)
    loss = F.cross_entropy(logits, labels)
    assert loss.item() == pytest.approx(naive_loss(head, embeddings, labels), rel=1e-5)

    loss.backward()
    assert embeddings.grad is not None
    for row in [0, 1, 2, *past_pi.nonzero()[:3, 0].tolist()]:
        step = torch.zeros(40, 3, dtype=torch.float64)
        step[row, row % 3] = 1e-6
        exact = embeddings.detach().double()
        slope = (naive_loss(head, exact + step, labels) - naive_loss(head, exact - step, labels)) / 2e-6
        assert embeddings.grad[row, row % 3].item() == pytest.approx(slope, rel=1e-3, abs=1e-5)


def test_worked_by_hand() -> None:
    head = SubCenterArcFace(2, torch.tensor([0.5, 0.5]), centres=1, scale=10.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, 0.0], [0.0, 3.0]]))  # lengths do not matter
    logits = head(torch.tensor([[7.0, 0.0], [-1.0, 0.0]]), torch.tensor([1, 0]))
    # 90 degrees to its own class: cos(π/2 + 0.5); the other class is seen without a margin.
    assert logits[0].tolist() == pytest.approx([10.0, -10.0 * math.sin(0.5)], abs=1e-4)
    # Opposite to its own class: θ + m passes π, so cos θ - m sin(π - m).
    assert logits[1, 0].item() == pytest.approx(10.0 * (-1.0 - 0.5 * math.sin(0.5)), abs=1e-4)


def test_the_nearest_centre_of_a_class_counts() -> None:
    head = SubCenterArcFace(2, torch.zeros(2), centres=2, scale=1.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, -1.0]]))
    assert head.cosines(torch.tensor([[0.0, 2.0]]))[0].tolist() == pytest.approx([1.0, 0.0])


def test_classes_may_have_different_numbers_of_centres() -> None:
    torch.manual_seed(0)
    head = SubCenterArcFace(5, torch.tensor([0.1, 0.3, 0.5]), centres=[2, 1, 3], scale=30.0)
    assert (head.centres, head.n_classes) == (3, 3)
    embeddings = torch.randn(50, 5, generator=torch.Generator().manual_seed(1))
    weight = F.normalize(head.weight.detach()).view(3, 3, 5)
    every = torch.einsum("nd,ckd->nck", F.normalize(embeddings), weight)
    expected = torch.stack([every[:, 0, :2].amax(1), every[:, 1, 0], every[:, 2].amax(1)], dim=1)
    assert torch.allclose(head.cosines(embeddings), expected, atol=1e-6)
    assert not torch.allclose(every.amax(2), expected, atol=1e-3)  # the places left empty would have counted

    F.cross_entropy(head(embeddings, torch.arange(50) % 3), torch.arange(50) % 3).backward()
    assert head.weight.grad is not None
    learned = head.weight.grad.view(3, 3, 5).abs().sum(2) > 0
    assert learned.tolist() == [[True, True, False], [True, False, False], [True, True, True]]


def test_as_many_centres_for_each_class_is_one_number_for_all() -> None:
    listed = SubCenterArcFace(5, torch.tensor([0.1, 0.3]), centres=[2, 2], scale=30.0)
    single = make_head([0.1, 0.3], centres=2)
    assert listed.state_dict().keys() == single.state_dict().keys()
    single.load_state_dict(listed.state_dict())
    embeddings = torch.randn(6, 5)
    assert torch.equal(listed.cosines(embeddings), single.cosines(embeddings))


@pytest.mark.parametrize("centres", [[1], [1, 2, 3], [1, 0], [2, -1]])
def test_centres_that_do_not_go_with_the_classes_are_refused(centres: list[int]) -> None:
    with pytest.raises(InputError, match=rf"centres is \{centres} and .*or one a class"):
        SubCenterArcFace(5, torch.tensor([0.2, 0.2]), centres=centres, scale=30.0)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradient_is_finite_where_cosine_is_plus_or_minus_one(sign: float) -> None:
    head = make_head([0.5, 0.2], centres=1)
    embeddings = (sign * head.weight.detach()[:1]).clone().requires_grad_()
    logits = head(embeddings, torch.tensor([0]))
    F.cross_entropy(logits, torch.tensor([0])).backward()
    assert embeddings.grad is not None
    assert torch.isfinite(embeddings.grad).all()
    assert head.weight.grad is not None
    assert torch.isfinite(head.weight.grad).all()


def test_the_naive_square_root_would_fail_there() -> None:
    cos = torch.ones(1, requires_grad=True)
    (1.0 - cos.square()).sqrt().sum().backward()
    assert cos.grad is not None
    assert not torch.isfinite(cos.grad).all()


@given(st.floats(-1.0, 1.0, width=32), st.floats(0.0, 1.5))
@settings(max_examples=60, deadline=None)
def test_a_margin_never_raises_the_logit_and_it_rises_with_the_cosine(cosine: float, margin: float) -> None:
    head = make_head([margin, margin], scale=1.0)
    grid = torch.tensor([cosine, min(1.0, cosine + 0.05)])
    logits = head.add_margin(torch.stack([grid, torch.zeros(2)], dim=1), torch.tensor([0, 0]))[:, 0]
    assert (logits <= grid + 1e-3).all()  # 1 - cos² is held above 1e-7, which is 3e-4 in the sine
    assert logits[0] <= logits[1] + 1e-3


def test_equal_counts_give_the_high_margin_and_not_nan() -> None:
    margins = spread_margins([7, 7, 7])
    assert margins.tolist() == pytest.approx([0.5, 0.5, 0.5])
    assert torch.isfinite(spread_margins([1])).all()


def test_margins_worked_by_hand() -> None:
    assert power_margins([1, 16, 81], a=0.5, b=0.05, exponent=0.25).tolist() == pytest.approx(
        [0.55, 0.3, 0.05 + 0.5 / 3]
    )
    # t = 1, 1/2, 1/3: the middle one stands at (1/2 - 1/3) / (2/3) = 1/4 of the way up.
    assert spread_margins([1, 16, 81]).tolist() == pytest.approx([0.5, 0.275, 0.2])
    assert absolute_margins([1, 10]).tolist() == pytest.approx([0.321, 0.271 * 10**-0.364 + 0.05])


@given(counts_of_classes)
@settings(deadline=None)
def test_the_spread_form_is_the_power_form_that_meets_the_range(counts: list[int]) -> None:
    high, low = min(counts) ** -0.25, max(counts) ** -0.25
    if high == low:
        return
    a = 0.3 / (high - low)
    expected = power_margins(counts, a=a, b=0.2 - a * low, exponent=0.25)
    assert torch.allclose(spread_margins(counts), expected, atol=1e-4)


@given(counts_of_classes)
@settings(deadline=None)
def test_margins_are_finite_float32_and_fall_with_size(counts: list[int]) -> None:
    ordered = sorted(counts)
    for margins in (
        power_margins(ordered, a=0.5, b=0.05, exponent=0.25),
        spread_margins(ordered),
        absolute_margins(ordered),
    ):
        assert margins.dtype == torch.float32
        assert torch.isfinite(margins).all()
        assert (margins.diff() <= 1e-7).all()


@pytest.mark.parametrize("counts", [[], [3, 0]])
def test_margins_of_an_empty_class_are_refused(counts: list[int]) -> None:
    with pytest.raises(InputError, match="every class needs at least one annotation"):
        absolute_margins(counts)


def test_float64_margins_do_not_turn_the_logits_into_float64() -> None:
    head = SubCenterArcFace(3, torch.tensor([0.2, 0.3], dtype=torch.float64), centres=2, scale=30.0)
    assert head.margins.dtype == torch.float32
    assert head(torch.randn(2, 3), torch.tensor([0, 1])).dtype == torch.float32


@pytest.mark.parametrize(("label", "shown"), [(-1, "label -1 at position 1"), (2, "label 2 at position 1")])
def test_a_label_outside_the_classes_is_refused(label: int, shown: str) -> None:
    head = make_head([0.2, 0.2])
    with pytest.raises(InputError, match=shown):
        head(torch.randn(3, 5), torch.tensor([0, label, 1]))


def test_stays_float32_under_autocast_and_with_half_embeddings() -> None:
    head = make_head([0.3, 0.4], scale=64.0)
    embeddings = torch.randn(6, 5, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    expected = head(embeddings, labels)
    with torch.autocast("cpu", torch.bfloat16):
        logits = head(embeddings, labels)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, expected)
    assert head(embeddings.half() * 1e4, labels).isfinite().all()


@pytest.mark.parametrize("margins", [[0.2], [0.2, -0.1], [0.2, 3.2], [0.2, float("nan")]])
def test_impossible_margins_are_refused(margins: list[float]) -> None:
    with pytest.raises(InputError, match="margin"):
        make_head(margins)
    with pytest.raises(InputError, match="centres is 0"):
        make_head([0.2, 0.2], centres=0)
