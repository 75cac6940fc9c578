"""The object API: any torch model and loss, on the federated core."""

import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from weakref import ref

import datasets
import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import llmagentos
from llmagentos import FederatedLearning, JournalError, QuorumError, ServerSettings, SettingError
from llmagentos.errors import DivergedError
from llmagentos.journal import Journal
from llmagentos.messages import Task
from llmagentos.strategies import fedasync, fedavg, fedbuff, fednova, krum
from tests.lm_world import tiny_peft

pytestmark = pytest.mark.usefixtures("one_thread")

BY_NAME = ["fedavg", "fedprox", "fedavgm", "fedadam", "fedyogi", "fedadagrad"]


def line(rows=20, seed=0):
    """Points of y = x . (1, 2, 3)."""
    x = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x @ torch.tensor([[1.0], [2.0], [3.0]]))


def network(*between, dropout=0.1):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = nn.Linear(3, 4), nn.Linear(4, 1)
    return nn.Sequential(first, *between, nn.Tanh(), nn.Dropout(dropout), last)


def federated(model=None, optimizer=None, loss_fn=nn.functional.mse_loss, **where):
    """Two clients, one of which brings a DataLoader that shuffles."""
    model = network() if model is None else model
    optimizer = optimizer or SGD(model.parameters(), lr=0.05)
    fl = FederatedLearning(model, loss_fn, optimizer, **where)
    fl.add_client("north", line(20), batch_size=5)
    fl.add_client("south", DataLoader(line(12, seed=1), batch_size=4, shuffle=True))
    return fl


def bits(model):
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def trained(rounds=2, fl=None, **how):
    fl = fl or federated()
    fl.train(rounds, verbose=False, **how)
    return bits(fl.get_global_model())


class Scalar(nn.Module):
    """Its output is its one weight, whatever comes in."""

    def __init__(self, start=0.0):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))

    def forward(self, x):
        return self.w.expand(len(x))


def half_square(output, target):
    return 0.5 * (output - target).square().mean()


def scalar_federation(model=None, **weights):
    """One step of lr 1/2 on (w - y)^2 / 2: three rows lead from 0 to 1, one row to 3."""
    fl = FederatedLearning(model or Scalar(), half_square, partial(SGD, lr=0.5))
    fl.add_client("a", [(0.0, 2.0)] * 3, weight=weights.get("a"))
    fl.add_client("b", [(0.0, 6.0)], weight=weights.get("b"))
    return fl


def weight_after(fl, *how, **more):
    fl.train(1, *how, verbose=False, **more)
    return fl.get_global_model().w.item()


def test_the_readme_example_runs_as_written(capsys):
    model = network()
    names = {"model": model, "loss_fn": nn.functional.mse_loss}
    names |= {"optimizer": SGD(model.parameters(), lr=0.05)}
    names |= {"north_data": line(20), "south_data": line(12, seed=1)}
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    example = readme.split("## As a library")[1].split("```python\n")[1].split("```")[0]
    exec(example, names)
    inputs, targets = line()[:]
    assert nn.functional.mse_loss(names["global_model"](inputs), targets) < 4
    assert "rounds 1 to 10, 2 clients: training loss" in capsys.readouterr().out


def test_importing_the_package_loads_no_torch():
    code = "import sys, llmagentos; llmagentos.ServerSettings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert all(getattr(llmagentos, name) for name in llmagentos.__all__)
    with pytest.raises(AttributeError, match="no attribute 'Federated'"):
        llmagentos.Federated  # noqa: B018


def test_one_client_with_plain_sgd_is_central_training():
    central = network(dropout=0)
    batches = DataLoader(line(), batch_size=5)
    fl = FederatedLearning(network(dropout=0), nn.functional.mse_loss, partial(SGD, lr=0.1))
    fl.add_client(batches)
    fl.train(3, verbose=False)
    optimizer = SGD(central.parameters(), lr=0.1)
    for x, y in list(batches) * 3:
        optimizer.zero_grad()
        nn.functional.mse_loss(central(x), y).backward()
        optimizer.step()
    for ours, theirs in zip(fl.get_global_model().parameters(), central.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_clients_count_by_rows_by_weight_or_alike():
    assert weight_after(scalar_federation()) == 1.5
    assert weight_after(scalar_federation(a=0.25, b=0.75)) == 2.5
    assert weight_after(scalar_federation(), ServerSettings(weighting="uniform")) == 2.0


def test_mu_pulls_every_step_to_the_global_model():
    fl = FederatedLearning(Scalar(), half_square, partial(SGD, lr=0.5))
    fl.add_client([(0.0, 2.0)], steps=2)
    assert weight_after(fl, mu=1.0) == 1.0  # 0 -> 1, then the pull cancels the gradient


def test_fedprox_without_pull_is_fedavg_and_with_it_is_not():
    assert trained(strategy="fedprox", mu=0) == trained()
    assert trained(strategy="fedprox") == trained(strategy="fedprox", mu=0.01) != trained()


def test_updates_of_rounds_that_all_play_together_are_fresh():
    assert trained(strategy=fedbuff()) == trained(strategy=fedasync(1.0)) == trained()


def test_the_readmes_strategy_is_played_as_the_named_one():
    def three():
        fl = federated(network(nn.BatchNorm1d(4)))
        fl.add_client("west", line(8, seed=2))
        return fl

    readme = (Path(__file__).parent.parent / "README.md").read_text()
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "median" in b]
    names = {}
    exec(block, names)
    own = trained(fl=three(), strategy=names["coordinate_median"]())
    assert own == trained(fl=three(), strategy="median") != trained(fl=three())


def test_a_strategy_of_ones_own_keeps_its_extras_where_a_model_has_buffers():
    counts = []

    def advance(state, step):
        count = state.extra.get("count", np.zeros(1, np.float32)) + np.float32(1)
        counts.append(count.item())
        return replace(
            state.advanced(step.moved(state.adapter.vector, 1.0)), extra={"count": count}
        )

    fl = federated(network(nn.BatchNorm1d(4)))
    fl.train(2, replace(fedavg(), advance=advance), verbose=False)
    assert counts == [1, 2]


@pytest.mark.parametrize("strategy", BY_NAME)
def test_every_strategy_learns(strategy):
    fl = federated()
    before = fl.evaluate(line())
    losses = [np.mean(list(r.train_loss.values())) for r in fl.train(6, strategy, verbose=False)]
    assert losses[-1] < losses[0]
    assert fl.evaluate(line()) < before


def test_the_same_seed_gives_the_same_bits_and_another_does_not():
    first = trained(seed=1)
    torch.rand(7)
    assert trained(seed=1) == first != trained(seed=2)


def test_a_loaders_own_generator_follows_the_seed():
    def once():
        fl = FederatedLearning(network(), nn.functional.mse_loss, SGD)
        fl.add_client(loader, steps=3)
        return trained(fl=fl)

    loader = DataLoader(line(), batch_size=4, shuffle=True, generator=torch.Generator())
    assert once() == once()


def test_training_leaves_torchs_random_numbers_alone():
    before = torch.get_rng_state()
    trained()
    assert torch.equal(torch.get_rng_state(), before)


def test_training_goes_on_where_it_stopped_with_its_moments():
    fl = federated()
    fl.train(2, "fedadam", verbose=False)
    (report,) = fl.train(1, "fedadam", verbose=False)
    assert report.round == 3
    assert bits(fl.get_global_model()) == trained(3, strategy="fedadam")


class Fragile:
    """Mean squared error that breaks once, when it is asked for the n-th time."""

    def __init__(self, calls, error):
        self.calls, self.error = calls, error

    def __call__(self, output, target):
        self.calls -= 1
        if not self.calls:
            raise self.error
        return nn.functional.mse_loss(output, target)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("boom"), KeyError("boom")])
@pytest.mark.parametrize("calls", [1, 5, 20])
def test_a_run_that_breaks_and_goes_on_ends_with_the_same_bits(tmp_path, error, calls):
    broken = federated(loss_fn=Fragile(calls, error), folder=tmp_path)
    with pytest.raises(type(error)):
        broken.train(4, "fedadam", verbose=False)
    undisturbed = trained(4, strategy="fedadam")
    again = federated(folder=tmp_path)
    reports = again.train(4, "fedadam", verbose=False)
    assert [report.round for report in reports] == [1, 2, 3, 4]
    assert bits(again.get_global_model()) == undisturbed
    assert again.train(4, "fedadam", verbose=False)[0].round == 5


def test_a_folder_that_is_further_along_plays_nothing(tmp_path, capsys):
    done = trained(2, federated(folder=tmp_path))
    fl = federated(folder=tmp_path)
    assert [report.round for report in fl.train(2)] == [1, 2]
    assert bits(fl.get_global_model()) == done
    assert "rounds 1 to 2 (2 of 2 were played before), 2 clients" in capsys.readouterr().out


def test_kept_rounds_are_there_before_training(tmp_path):
    played = federated(folder=tmp_path)
    assert bits(played.get_global_model()) == bits(network())
    done = trained(2, played)
    fl = federated(folder=tmp_path)
    assert fl.evaluate(line()) == played.evaluate(line())
    assert bits(fl.get_global_model()) == done != bits(network())
    assert [report.round for report in fl.train(3, verbose=False)] == [1, 2, 3]
    other = federated(network(nn.Identity()), folder=tmp_path)
    with pytest.raises(JournalError, match="another model"):
        other.get_global_model()


def test_a_folder_in_use_is_said_when_its_rounds_are_asked_for(tmp_path):
    with Journal(tmp_path):
        fl = federated(folder=tmp_path)
        with pytest.raises(JournalError, match="in use by another process; wait for it"):
            fl.evaluate(line())
    assert fl.evaluate(line()) == federated().evaluate(line())


def test_a_strategy_may_evaluate_as_it_plays_in_a_folder(tmp_path):
    losses = []

    def advance(state, step):
        losses.append(fl.evaluate(line()))
        return fedavg().advance(state, step)

    fl = federated(folder=tmp_path)
    fl.train(2, replace(fedavg(), advance=advance), verbose=False)
    assert losses[0] == federated().evaluate(line()) != losses[1]


def test_a_run_without_a_folder_goes_on_after_an_error_too():
    fl = federated(loss_fn=Fragile(20, RuntimeError("boom")))
    with pytest.raises(RuntimeError, match="boom"):
        fl.train(4, verbose=False)
    assert trained(4, fl) == trained(4)


def test_a_folder_of_another_model_is_refused(tmp_path):
    trained(1, federated(folder=tmp_path))
    with pytest.raises(JournalError, match="another model"):
        federated(network(nn.Identity()), folder=tmp_path).train(1)


@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_instance_class_and_function_are_the_same_optimizer(kind):
    model = network()
    lr = kind(model.parameters()).defaults["lr"]
    made = [kind(model.parameters()), kind, lambda parameters: kind(parameters, lr=lr)]
    one, *others = [trained(fl=federated(model, optimizer)) for optimizer in made]
    assert [one] * 2 == others


def test_groups_of_an_optimizer_keep_their_settings():
    model = network()
    slow = {"params": model[0].parameters(), "lr": 0.0}
    fl = federated(model, SGD([slow, {"params": model[-1].parameters()}], lr=0.1))
    fl.train(1, verbose=False)
    after = fl.get_global_model()
    assert torch.equal(after[0].weight, model[0].weight)
    assert not torch.equal(after[-1].weight, model[-1].weight)


def test_of_another_models_optimizer_class_and_settings_are_taken():
    model = network()
    other = SGD(network().parameters(), lr=0.05)
    assert trained(fl=federated(model, other)) == trained()


class Closed(SGD):
    """Calls its closure where gradients are off, as some optimizers of other libraries do."""

    @torch.no_grad()
    def step(self, closure):
        loss = closure()
        super().step()
        return loss


def test_an_optimizer_may_call_its_closure_where_gradients_are_off():
    assert trained(fl=federated(optimizer=partial(Closed, lr=0.05))) == trained()


def test_an_optimizer_that_needs_several_passes_a_step_works():
    fl = federated(optimizer=torch.optim.LBFGS(network().parameters(), max_iter=3))
    before = fl.evaluate(line())
    fl.train(2, verbose=False)
    assert fl.evaluate(line()) < before


def test_the_given_model_stays_as_it_is_and_its_mode_is_kept():
    model = network(nn.BatchNorm1d(4))
    model[1].eval()
    before = bits(model)
    fl = federated(model)
    fl.train(1, verbose=False)
    after = fl.get_global_model()
    assert bits(model) == before != bits(after)
    assert all(parameter.grad is None for parameter in [*model.parameters(), *after.parameters()])
    assert [part.training for part in after] == [True, False, True, True, True]
    assert after is not fl.get_global_model()


@pytest.mark.parametrize("before", [None, torch.tensor(7.0)])
@pytest.mark.parametrize("quorum", [1.0, 0.5])
def test_a_loss_that_would_train_the_given_model_is_refused_and_leaves_it(before, quorum):
    model = Scalar(2.0)
    model.w.grad = before

    def penalised(output, target):
        return half_square(output, target) + 10 * model.w.square()

    fl = federated(model, loss_fn=penalised)
    for _ in range(2):
        with pytest.raises((SettingError, QuorumError), match=r"uses w of the model .* batch"):
            fl.train(1, ServerSettings(quorum=quorum), verbose=False)
    assert model.w.grad is before
    assert before in (None, 7.0)


def test_a_loss_may_read_the_given_model_as_it_is():
    model = network()

    def near_the_teacher(output, target):
        with torch.no_grad():
            teacher = model[0].weight.square().sum()
        return nn.functional.mse_loss(output, target) + teacher

    assert trained(fl=federated(model, loss_fn=near_the_teacher)) == trained()
    model[0].weight.sum().backward()  # afterwards the caller may train it
    assert torch.equal(model[0].weight.grad, torch.ones(4, 3))


def test_the_given_model_is_not_kept_alive():
    model = Scalar()
    fl, held = scalar_federation(model), ref(model.w)
    del model
    assert weight_after(fl) == 1.5
    assert held() is None


def test_statistics_of_batch_norm_are_averaged_whatever_the_server_does():
    class Seen(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(1, momentum=0.5)

        def forward(self, x):
            return self.norm(x.reshape(-1, 1)).flatten()

    for strategy in ("fedavg", "fedadam"):
        fl = FederatedLearning(Seen(), half_square, partial(SGD, lr=0.1))
        fl.add_client([(3.0, 0.0), (5.0, 0.0)])  # the batch's mean is 4, its variance 2
        fl.add_client([(1.0, 0.0), (7.0, 0.0)])  # 4 and 18
        fl.train(1, strategy, verbose=False)
        norm = fl.get_global_model().norm
        assert norm.running_mean.item() == 2.0  # from 0 half way to 4
        assert norm.running_var.item() == 5.5  # the mean of (1 + 2) / 2 and (1 + 18) / 2
        assert norm.num_batches_tracked.item() == 0


def test_masks_with_infinities_and_buffers_that_are_not_saved_stay():
    model = Scalar()
    model.register_buffer("mask", torch.full((2,), -torch.inf))
    model.register_buffer("cache", torch.ones(2), persistent=False)
    fl = scalar_federation(model)
    assert weight_after(fl) == 1.5
    assert fl._weights.layout.names == ("w",)
    assert torch.equal(fl.get_global_model().mask, model.mask)


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_values_of_float64_buffers_that_no_client_changed_stay_exact(strategy):
    class Clocked(Scalar):
        def __init__(self):
            super().__init__()
            self.register_buffer("clock", torch.tensor([1732200000.123, 0.1], dtype=torch.float64))

        def forward(self, x):
            if self.training:
                self.clock[1] = 0.5
            return super().forward(x)

    fl = scalar_federation(Clocked())
    assert fl.get_global_model().clock.tolist() == [1732200000.123, 0.1]
    fl.train(2, strategy, verbose=False)
    assert fl.get_global_model().clock.tolist() == [1732200000.123, 0.5]


def test_weights_of_another_type_are_averaged_in_float32_and_converted_back():
    model = Scalar().to(torch.bfloat16)
    fl = scalar_federation(model)
    assert weight_after(fl) == 1.5
    assert fl.get_global_model().w.dtype == torch.bfloat16


def test_tied_weights_count_once_and_stay_tied():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].weight = model[0].weight
    fl = federated(model)
    fl.train(1, verbose=False)
    after = fl.get_global_model()
    assert after[1].weight is after[0].weight
    assert "1.weight" not in fl._weights.layout.names


def test_a_shared_buffer_stays_shared():
    model = Scalar()
    model.register_buffer("count", torch.zeros(1))
    model.inner = nn.Module()
    model.inner.register_buffer("count", model.count)
    fl = scalar_federation(model)
    fl.train(1, verbose=False)
    after = fl.get_global_model()
    assert after.count is after.inner.count
    assert fl._weights.layout.names == ("count", "w")


def test_every_row_is_seen_once_a_pass_in_an_order_of_its_own():
    seen = []

    def loss(output, target):
        seen.extend(target.tolist())
        return output.mean()

    fl = FederatedLearning(Scalar(), loss, SGD)
    fl.add_client([(0.0, float(k)) for k in range(10)], batch_size=4)
    fl.train(2, verbose=False)
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]


def test_steps_say_how_many_batches_a_round_takes():
    for data in (line(10), DataLoader(line(10), batch_size=8)):
        losses = Fragile(0, None)
        fl = FederatedLearning(network(), losses, SGD)
        fl.add_client(data, steps=5)
        fl.train(1, verbose=False)
        assert losses.calls == -5


def test_mappings_reach_the_model_by_the_names_of_its_arguments():
    rows = datasets.Dataset.from_dict({"input": [[1.0, 0, 0], [0, 1.0, 0]], "y": [1.0, 2.0]})
    fl = FederatedLearning(
        nn.Linear(3, 1), lambda out, row: half_square(out[:, 0], row["y"]), partial(SGD, lr=0.5)
    )
    fl.add_client(rows)
    fl.train(60, verbose=False)
    torch.testing.assert_close(fl.evaluate(rows), 0.0, atol=1e-6, rtol=0)


def test_of_a_peft_model_only_the_adapter_moves():
    model = tiny_peft()
    rows = [{"input_ids": [3 + k, 4 + k, 5 + k, 6 + k], "labels": [3, 4, 5, 6]} for k in range(6)]
    fl = FederatedLearning(model, lambda output, _: output.loss, partial(AdamW, lr=0.01))
    fl.add_client("hospital", datasets.Dataset.from_list(rows[:4]))
    fl.add_client("bank", rows[4:])
    first, *_, last = fl.train(3, "fedprox", verbose=False)
    assert last.train_loss["bank"] < first.train_loss["bank"]
    assert all(".lora_" in name for name in fl._weights.layout.names)
    before, after = model.state_dict(), fl.get_global_model().state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if ".lora_" in name}


def test_the_caller_may_let_clients_fail():
    fl = federated(loss_fn=Fragile(1, RuntimeError("boom")))
    (report,) = fl.train(1, ServerSettings(quorum=0.5), verbose=False)
    assert report.refused == {"north": "RuntimeError: boom"}
    assert list(report.weights) == ["south"]
    with pytest.raises(QuorumError, match=r"0 of 2 .* 'south': loss_fn returned int"):
        federated(loss_fn=lambda *_: 0).train(1, ServerSettings(), verbose=False)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(line(6))


def test_what_a_client_raises_names_it_and_its_round():
    with pytest.raises(RuntimeError, match="boom") as raised:
        federated(loss_fn=Fragile(1, RuntimeError("boom"))).train(1, verbose=False)
    assert raised.value.__notes__[-1] == "This was raised for client 'north' in round 1."


def test_a_printed_report_is_as_short_for_a_thousand_clients():
    (report,) = federated().train(1, verbose=False)
    many = dict.fromkeys(map(str, range(1000)), 0.5)
    by_client = [name for name, value in vars(report).items() if isinstance(value, dict)]
    crowded = replace(report, **dict.fromkeys(set(by_client) - {"refused"}, many))
    assert repr(crowded) == repr(report)
    assert "seconds=" in repr(report)


def test_the_bar_shows_reasons_as_they_are(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    fl = federated(loss_fn=Fragile(1, OSError("cannot read [/mnt/share/x.png]")))
    fl.train(1, ServerSettings(quorum=0.5))
    assert "[/mnt/share/x.png]" in capsys.readouterr().out


def test_an_error_of_a_callers_code_tells_the_shapes_of_the_batch():
    fl = FederatedLearning(network(), nn.CrossEntropyLoss(), SGD)
    fl.add_client("north", [(torch.zeros(5, 2), torch.zeros(5)) for _ in range(3)])
    with pytest.raises(RuntimeError) as raised:
        fl.train(1, verbose=False)
    assert raised.value.__notes__[0] == "The batch was ((3, 5, 2), (3, 5))."
    with pytest.raises(RuntimeError) as raised:
        fl.evaluate([(torch.zeros(5, 2), ("a", torch.zeros(5)))], batch_size=1)
    assert raised.value.__notes__ == ["The batch was ((1, 5, 2), (('str',), (1, 5)))."]


def test_a_client_whose_training_leaves_the_numbers_is_named_with_a_remedy():
    fl = federated()
    fl.add_client("west", [(x, torch.full_like(y, torch.nan)) for x, y in line(4)])
    with pytest.raises(DivergedError, match=r"its loss is nan: look for NaN") as raised:
        fl.train(1, verbose=False)
    assert raised.value.__notes__ == ["This was raised for client 'west' in round 1."]


def test_rows_of_different_lengths_need_padding():
    fl = FederatedLearning(network(), nn.functional.mse_loss, SGD)
    fl.add_client("north", [([0.0] * size, [0.0]) for size in (2, 3)])
    with pytest.raises(SettingError, match=r"rows that make no batch .*collate_fn that pads them"):
        fl.train(1, verbose=False)


def test_a_last_batch_too_small_for_batch_norm_tells_the_remedies():
    def of(data, **how):
        fl = FederatedLearning(network(nn.BatchNorm1d(4)), nn.functional.mse_loss, SGD)
        fl.add_client("north", data, **how)
        return fl

    for data in (line(17), DataLoader(line(17), batch_size=8)):
        with pytest.raises(
            SettingError, match=r"batch_size leaves one row.* steps=.*drop_last"
        ) as e:
            of(data).train(1, verbose=False)
        assert e.value.__notes__[0] == "The batch was ((1, 3), (1, 1))."
    of(line(17), batch_size=6).train(1, verbose=False)
    of(line(17), steps=3).train(1, verbose=False)
    of(DataLoader(line(17), batch_size=8, drop_last=True)).train(1, verbose=False)


class Wide(nn.Linear):
    """A linear layer whose input is called x, as the field of a row."""

    def forward(self, x):
        return super().forward(x)


@pytest.mark.parametrize("row", [{"x": [0.0] * 3, "note": None}, {"x": [0.0] * 3}])
def test_rows_of_different_fields_or_without_a_value_are_named(row):
    fl = FederatedLearning(Wide(3, 1), lambda output, _: output.mean(), SGD)
    fl.add_client("north", [{"x": [0.0] * 3, "note": 1.0}, row])
    with pytest.raises(SettingError, match="all need the same fields, without None"):
        fl.train(1, verbose=False)


def test_a_client_is_added_by_position_or_by_name():
    fl = FederatedLearning(network(), nn.functional.mse_loss, SGD)
    fl.add_client(line())
    fl.add_client(data=line())
    fl.add_client("north", line())
    fl.add_client(name="south", data=line())
    (report,) = fl.train(1, verbose=False)
    assert sorted(report.weights) == ["client-1", "client-2", "north", "south"]


def test_numbers_of_numpy_are_numbers():
    fl = federated()
    fl.add_client("west", line(), weight=np.float32(7), steps=np.int64(2), batch_size=np.int32(3))
    assert [r.round for r in fl.train(np.int64(2), mu=np.float32(0.1), verbose=False)] == [1, 2]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"folder='.*file': File exists; name a folder"):
        federated(folder=tmp_path / "file")


def test_a_rule_that_needs_more_clients_is_refused_before_any_training():
    fl = federated(loss_fn=Fragile(1, RuntimeError("boom")))
    with pytest.raises(SettingError, match=r"'krum': needs 5 updates a round, and 2 agents give 2"):
        fl.train(1, "krum")


def test_a_stream_needs_a_weight():
    fl = FederatedLearning(network(), nn.functional.mse_loss, SGD)
    fl.add_client("stream", DataLoader(Stream(), batch_size=2), weight=6)
    (report,) = fl.train(1, verbose=False)
    assert list(report.train_loss) == ["stream"]
    with pytest.raises(SettingError, match=r"client 'other': data has no length.*give weight="):
        fl.add_client("other", DataLoader(Stream()))


def test_a_client_evaluates_what_it_is_sent_on_its_own_rows():
    fl = scalar_federation(Scalar(4.0))
    layout, vectors = fl._weights.layout, {"adapter": np.array([5.0], np.float32)}
    task = Task("run", 1, "evaluate", "b", vectors, layout, seed=0)
    assert fl._trainer.evaluate(task).metrics == {"loss": 0.5}
    assert fl.evaluate([(0.0, 6.0)]) == 2.0


def test_what_is_wrong_with_a_client_is_said_when_it_is_added():
    fl = federated()
    wrong = {
        "name='north': a client has this name": ("north", line()),
        "name=7": (7, line()),
        "name='  '.* not blank": ("  ", line()),
        r"name='Zürich\\xa0Nord'.* a name is printable text": ("Zürich\xa0Nord", line()),
        "data=None: give the rows or batches of client 'west'": ("west",),
        "client 'west': data is empty": ("west", []),
        "'west': data is empty: give": ("west", DataLoader(line(3), batch_size=4, drop_last=True)),
        "data of type dict has no numbered rows": ("west", {"train": line()}),
        "data of type Stream": ("west", Stream()),
        "data of type Dataset": ("west", Dataset()),
        "row of type Tensor.*TensorDataset": ("west", torch.zeros(5, 2)),
        "row of type str": ("west", ["some", "text"]),
    }
    for message, given in wrong.items():
        with pytest.raises(SettingError, match=message):
            fl.add_client(*given)
    for name in ("weight", "steps", "batch_size"):
        for value in (0, "3", float("nan")):
            with pytest.raises(SettingError, match=f"{name}={value!r}: needs to be a .* number"):
                fl.add_client("west", line(), **{name: value})
    for name in ("steps", "batch_size"):
        with pytest.raises(SettingError, match=f"{name}=2.5: needs to be a whole number"):
            fl.add_client("west", line(), **{name: 2.5})
    with pytest.raises(SettingError, match="batch_size=0: needs to be a whole number"):
        fl.evaluate(line(), batch_size=0)
    with pytest.raises(SettingError, match="the DataLoader has its own"):
        fl.add_client("west", DataLoader(line()), batch_size=2)


def half_frozen():
    model = network()
    optimizer = SGD(model[0].parameters())
    model[0].requires_grad_(requires_grad=False)
    return model, optimizer


def test_what_is_wrong_with_a_model_or_optimizer_is_said_at_once():
    model, frozen = network(), network().requires_grad_(requires_grad=False)
    complex_model = nn.ParameterDict({"spectrum": torch.zeros(2, dtype=torch.complex64)})
    sparse = nn.ParameterDict({"few": nn.Parameter(torch.zeros(2).to_sparse())})
    mixed = [*model.parameters(), *network().parameters()]
    wrong = {
        "model='llama'": ("llama", SGD),
        "no trainable parameter": (frozen, SGD),
        "spectrum .torch.complex64": (complex_model, SGD),
        "few .*sparse": (sparse, SGD),
        "has no values yet": (nn.LazyLinear(2), SGD),
        "optimizer='sgd'": (model, "sgd"),
        "holds no trainable": half_frozen(),
        "not the model's": (model, SGD(mixed)),
        "over other parameters": (model, lambda _: SGD(model.parameters())),
        "needs to return": (model, lambda _: None),
    }
    for message, (given, optimizer) in wrong.items():
        with pytest.raises(SettingError, match=message):
            FederatedLearning(given, nn.functional.mse_loss, optimizer)
    with pytest.raises(SettingError, match=r"loss_fn=.*MSELoss.*is a class; call it"):
        FederatedLearning(model, nn.MSELoss, SGD)
    with pytest.raises(SettingError, match="loss_fn=None"):
        FederatedLearning(model, None, SGD)


def test_what_is_wrong_with_a_call_of_train_is_said():
    fl = federated()
    wrong = {
        "num_rounds=0": {"num_rounds": 0},
        "num_rounds=2.5: needs to be a whole number": {"num_rounds": 2.5},
        "num_rounds='3'": {"num_rounds": "3"},
        "mu=-1": {"num_rounds": 1, "mu": -1},
        "mu='0.1': needs to be a number": {"num_rounds": 1, "mu": "0.1"},
        "did you mean fedadam": {"num_rounds": 1, "strategy": "fedadm"},
        "strategy='scaffold': for language models": {"num_rounds": 1, "strategy": "scaffold"},
        "server.weighting='tokens'": {
            "num_rounds": 1,
            "strategy": ServerSettings(weighting="tokens"),
        },
        "strategy=\\['fedavg'\\] is not known": {"num_rounds": 1, "strategy": ["fedavg"]},
        "strategy.told={'normalised': True}: clients do not act on it": {
            "num_rounds": 1,
            "strategy": fednova(),
        },
        "server.deadline_s=5.0: nobody is late": {
            "num_rounds": 1,
            "strategy": ServerSettings(deadline_s=5.0),
        },
        "server.spare=0.2: nobody is late": {
            "num_rounds": 1,
            "strategy": ServerSettings(spare=0.2),
        },
    }
    for message, given in wrong.items():
        with pytest.raises(SettingError, match=message):
            fl.train(**given)
    with pytest.raises(QuorumError, match=r"server\.strategy want 5"):
        fl.train(1, krum(tolerated=1), verbose=False)
    with pytest.raises(SettingError, match="call add_client"):
        FederatedLearning(network(), nn.functional.mse_loss, SGD).train(1)


@pytest.mark.parametrize(
    ("loss_fn", "message"),
    [
        (lambda out, y: out - y, r"loss_fn returned shape \(5, 1\)"),
        (lambda out, y: 0.5, "loss_fn returned float"),
        (lambda out, y: (out - y).mean().detach(), "depends on no trainable parameter"),
    ],
)
def test_a_loss_of_no_use_is_said(loss_fn, message):
    with pytest.raises(SettingError, match=message):
        federated(loss_fn=loss_fn).train(1, verbose=False)


def test_a_batch_that_is_neither_pair_nor_mapping_is_said():
    fl = federated()
    fl.add_client("west", DataLoader(TensorDataset(torch.zeros(4, 3)), batch_size=2))
    with pytest.raises(SettingError, match="batch of type list; it needs to be a pair"):
        fl.train(1, verbose=False)
    fl = federated()
    fl.add_client("west", [{"x": 1.0}])
    with pytest.raises(
        SettingError, match="data has the fields x, the model's forward takes input"
    ):
        fl.train(1, verbose=False)
