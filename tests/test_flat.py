"""The adapter as views of one vector."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from llmagentos.lm.flat import FlatAdapter


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def bound() -> tuple[nn.Sequential, FlatAdapter]:
    model = small_model()
    return model, FlatAdapter(dict(model.named_parameters()))


def test_binding_changes_no_value() -> None:
    model, flat = bound()
    before = torch.cat([p.detach().flatten() for p in small_model().parameters()])
    assert torch.equal(flat.vector.detach(), before)
    assert torch.equal(torch.cat([p.detach().flatten() for p in model.parameters()]), before)


def test_loading_one_vector_changes_every_parameter() -> None:
    model, flat = bound()
    flat.load(torch.arange(26.0))
    assert torch.equal(model[0].weight.detach(), torch.arange(12.0).view(4, 3))
    assert torch.equal(model[2].bias.detach(), torch.tensor([24.0, 25.0]))


def test_backward_passes_add_to_the_flat_gradient() -> None:
    model, flat = bound()
    plain = small_model()
    rows = torch.randn(5, 3)
    for network in (model, plain, model, plain):
        network(rows).square().sum().backward()
    expected = torch.cat([p.grad.flatten() for p in plain.parameters() if p.grad is not None])
    assert torch.equal(flat.gradient, expected)


def test_adamw_over_the_flat_vector_equals_adamw_over_the_parameters() -> None:
    model, flat = bound()
    plain = small_model()
    ours = torch.optim.AdamW([flat.vector], lr=0.1, weight_decay=0.1)
    theirs = torch.optim.AdamW(plain.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(5):
        rows = torch.randn(5, 3)
        flat.gradient.zero_()
        theirs.zero_grad()
        model(rows).square().sum().backward()
        plain(rows).square().sum().backward()
        ours.step()
        theirs.step()
    flat.check(dict(model.named_parameters()))
    expected = torch.cat([p.detach().flatten() for p in plain.parameters()])
    assert torch.equal(flat.vector.detach(), expected)


def cast(model: nn.Sequential, flat: FlatAdapter) -> None:
    model.to(torch.float64).to(torch.float32)


def drop_gradients(model: nn.Sequential, flat: FlatAdapter) -> None:
    model.zero_grad(set_to_none=True)


def drop_flat_gradient(model: nn.Sequential, flat: FlatAdapter) -> None:
    torch.optim.SGD([flat.vector]).zero_grad()


def replace_flat_values(model: nn.Sequential, flat: FlatAdapter) -> None:
    flat.vector.data = torch.zeros(26)


def replace_a_parameter(model: nn.Sequential, flat: FlatAdapter) -> None:
    model[0].weight = nn.Parameter(model[0].weight.detach().clone())


def keep_gradients_elsewhere(model: nn.Sequential, flat: FlatAdapter) -> None:
    model[2].bias.grad = torch.zeros(2)


def move_a_gradient(model: nn.Sequential, flat: FlatAdapter) -> None:
    model[2].bias.grad.data = torch.zeros(2)


BREAKERS = [
    cast,
    drop_gradients,
    drop_flat_gradient,
    replace_flat_values,
    replace_a_parameter,
    keep_gradients_elsewhere,
    move_a_gradient,
]


@pytest.mark.parametrize("breaker", BREAKERS, ids=lambda breaker: breaker.__name__)
def test_what_silently_unbinds_the_model_is_noticed(
    breaker: Callable[[nn.Sequential, FlatAdapter], None],
) -> None:
    model, flat = bound()
    flat.check(dict(model.named_parameters()))
    breaker(model, flat)
    with pytest.raises(AssertionError, match="bind the adapter after the model is placed"):
        flat.check(dict(model.named_parameters()))


def test_an_adapter_in_half_precision_is_not_bound() -> None:
    with pytest.raises(AssertionError):
        FlatAdapter(dict(small_model().half().named_parameters()))
