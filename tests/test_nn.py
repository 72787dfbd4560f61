"""Modules: PyTorch's names, shapes and initialisations, state, and messages."""

from __future__ import annotations

import numpy as np
import pytest

import gputape as gt
from gputape import nn

# Names and shapes of torch.nn 2.13's state_dict.
RECORDED = [
    ("Linear(5, 3)", "weight(3,5) bias(3,)"),
    ("Conv1d(4, 6, 3, groups=2)", "weight(6,2,3) bias(6,)"),
    ("Conv2d(4, 6, (3, 2), bias=False)", "weight(6,4,3,2)"),
    ("Conv3d(1, 2, 3)", "weight(2,1,3,3,3) bias(2,)"),
    ("ConvTranspose1d(4, 6, 3, groups=2)", "weight(4,3,3) bias(6,)"),
    ("ConvTranspose2d(4, 6, 3)", "weight(4,6,3,3) bias(6,)"),
    ("ConvTranspose3d(4, 6, 3)", "weight(4,6,3,3,3) bias(6,)"),
    ("LayerNorm((3, 5))", "weight(3,5) bias(3,5)"),
    ("BatchNorm1d(4)", "weight(4,) bias(4,) running_mean(4,) running_var(4,) num_batches_tracked()"),
    ("BatchNorm2d(4, affine=False)", "running_mean(4,) running_var(4,) num_batches_tracked()"),
    ("BatchNorm3d(4, track_running_stats=False)", "weight(4,) bias(4,)"),
    ("GroupNorm(2, 4)", "weight(4,) bias(4,)"),
    ("GroupNorm(2, 4, affine=False)", ""),
    ("RMSNorm((3, 5))", "weight(3,5)"),
    ("RMSNorm(5, elementwise_affine=False)", ""),
    ("Embedding(7, 5)", "weight(7,5)"),
    (
        "MultiheadAttention(8, 2)",
        "in_proj_weight(24,8) in_proj_bias(24,) out_proj.weight(8,8) out_proj.bias(8,)",
    ),
    (
        "MultiheadAttention(8, 2, kdim=5, vdim=7, bias=False)",
        "q_proj_weight(8,8) k_proj_weight(8,5) v_proj_weight(8,7) out_proj.weight(8,8)",
    ),
    (
        "MultiheadAttention(8, 2, add_bias_kv=True)",
        "in_proj_weight(24,8) in_proj_bias(24,) bias_k(1,1,8) bias_v(1,1,8) out_proj.weight(8,8) out_proj.bias(8,)",
    ),
    ("LSTM(3, 4, bias=False, proj_size=2)", "weight_ih_l0(16,3) weight_hh_l0(16,2) weight_hr_l0(2,4)"),
    (
        "Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.ReLU(), nn.Linear(3, 4)))",
        "0.weight(2,1,3,3) 0.bias(2,) 1.weight(2,) 1.bias(2,) 1.running_mean(2,) 1.running_var(2,) "
        "1.num_batches_tracked() 2.1.weight(4,3) 2.1.bias(4,)",
    ),
    ("CrossEntropyLoss(weight=[1.0, 2.0])", "weight(2,)"),
]


@pytest.mark.parametrize("source, expected", RECORDED)
def test_state_dict_has_pytorchs_names_and_shapes(source, expected):
    module = eval(f"nn.{source}")
    found = " ".join(f"{k}{v.shape}".replace(" ", "") for k, v in module.state_dict().items())
    assert found == expected
    other = eval(f"nn.{source}")
    assert other.load_state_dict(module.state_dict()) == ([], [])
    for a, b in zip(module.state_dict().values(), other.state_dict().values(), strict=True):
        assert a.tobytes() == b.tobytes()


class Net(nn.Module):
    def __init__(self):
        self.first = nn.Linear(4, 3)
        self.rest = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 2, bias=False)])
        self.scale = nn.Parameter([1.0, 2.0])
        self.mask = nn.Buffer([1.0, 0.0], persistent=False)

    def forward(self, x):
        x = self.first(x)
        for layer in self.rest:
            x = layer(x)
        return x * self.scale * self.mask


def test_attributes_are_registered():
    net = Net()
    names = ["scale", "first.weight", "first.bias", "rest.0.weight", "rest.0.bias", "rest.1.weight"]
    assert [n for n, _ in net.named_parameters()] == names
    assert list(net.state_dict()) == names
    assert [n for n, _ in net.named_buffers()] == ["mask"]
    assert [n for n, _ in net.named_modules()] == ["", "first", "rest", "rest.0", "rest.1"]
    assert net.first.weight.name == "first.weight"
    assert len(list(net.children())) == 2
    with gt.record() as tape:
        loss = gt.sum(net(np.ones((5, 4), np.float32)))
    assert {p.name for p in tape.backward(loss)} == set(names)


def test_a_shared_module_counts_once_and_is_saved_at_each_path():
    shared = nn.Linear(2, 2)
    model = nn.Sequential(shared, shared)
    assert len(list(model.parameters())) == 2 and len(list(model.modules())) == 2
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]


def test_modes_reach_every_module():
    net = Net()
    assert net.eval() is net and not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "Linear", "Linear", "ModuleList", "Net"]
    net.requires_grad_(False)
    with gt.record():
        assert not net(np.ones((1, 4), np.float32)).requires_grad


def test_sequential_and_module_list_behave_like_lists():
    model = nn.Sequential(nn.Linear(4, 3), nn.Identity()).append(nn.Linear(3, 2))
    assert len(model) == 3 and model[-1].out_features == 2
    assert isinstance(model[:2], nn.Sequential) and len(model[:2]) == 2
    assert [type(m).__name__ for m in model] == ["Linear", "Identity", "Linear"]
    named = nn.Sequential({"a": nn.Identity(), "b": nn.Linear(2, 2)})
    assert list(named.state_dict()) == ["b.weight", "b.bias"]
    with pytest.raises(gt.ArgumentError, match="not a module"):
        nn.Sequential(nn.Identity(), len)


def test_repr_is_a_tree_with_counts():
    text = repr(nn.Sequential(nn.Linear(4, 3), nn.Identity()))
    assert text == ("Sequential(  # 15 parameters\n  (0): Linear(4, 3)  # 15 parameters\n  (1): Identity()\n)")


def test_loading_lists_every_problem_and_writes_nothing():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    before = model.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    state["0.weight"] = np.zeros((3, 5), np.float32)
    state["2.bias"] = state.pop("1.bias")
    with pytest.raises(gt.CheckpointError) as caught:
        model.load_state_dict(state)
    for part in ("missing: 1.bias", "unexpected: 2.bias", "0.weight has shape (3, 4) in the model and (3, 5)"):
        assert part in str(caught.value)
    for name, value in model.state_dict().items():
        assert value.tobytes() == before[name].tobytes()
    state.pop("0.weight")
    result = model.load_state_dict(state, strict=False)
    assert result.missing_keys == ["0.weight", "1.bias"] and result.unexpected_keys == ["2.bias"]
    np.testing.assert_array_equal(model[1].weight.value, before["1.weight"] + 1)
    with pytest.raises(gt.CheckpointError, match="mapping"):
        model.load_state_dict([1])


def test_odd_state_dicts_name_the_entry():
    layer = nn.Linear(2, 2)
    before = layer.state_dict()
    for wrong in ({"weight": "abc"}, {"weight": None}, {"bias": np.ones(2) * 1j}):
        with pytest.raises(gt.CheckpointError, match=f"{next(iter(wrong))} cannot be read"):
            layer.load_state_dict(before | wrong)
    with pytest.raises(gt.CheckpointError, match="unexpected: 3"):
        layer.load_state_dict(before | {3: np.ones(2)})
    np.testing.assert_array_equal(layer.state_dict()["weight"], before["weight"])


def test_a_missing_forward_is_named():
    class Empty(nn.Module):
        pass

    with pytest.raises(gt.UnsupportedError, match="Empty: forward is missing"):
        Empty()(1)


def test_integer_parameters_are_refused():
    with pytest.raises(gt.DTypeError, match="Buffer"):
        nn.Parameter(np.arange(3))


def test_an_array_does_not_take_the_place_of_a_parameter():
    layer = nn.Linear(np.int64(3), 2)
    with pytest.raises(gt.ArgumentError, match="weight is a Parameter, and a ndarray would take its place"):
        layer.weight = np.ones((2, 3), "f")
    layer.bias = None
    layer.weight = nn.Parameter(np.ones((2, 3), "f"))
    assert [n for n, _ in layer.named_parameters()] == ["weight"]


def test_bad_layer_options_are_refused():
    for make, error in [
        (lambda: nn.Conv2d(4, 6, 3, groups=4), gt.ArgumentError),
        (lambda: nn.Conv2d(4, 6, (3, 3, 3)), gt.ArgumentError),
        (lambda: nn.Dropout(1.5), gt.ArgumentError),
        (lambda: nn.Linear(2.0, 3), gt.ArgumentError),
        (lambda: nn.MultiheadAttention(7, 2), gt.ArgumentError),
        (lambda: nn.Embedding(3, 2, padding_idx=3), gt.ArgumentError),
        (lambda: nn.BatchNorm2d(0), gt.ArgumentError),
    ]:
        with pytest.raises(error, match=r"^\w+: "):
            make()


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: nn.Conv2d(1, 2, 3, padding="sames"), "Conv2d: padding='sames' is not known"),
        (lambda: nn.LayerNorm("a"), "LayerNorm: normalized_shape='a' must be an integer"),
        (lambda: nn.Dropout("x"), "Dropout: p='x' is not a probability"),
        (lambda: nn.BatchNorm1d(2.0), "BatchNorm1d: num_features=2.0 must be an integer"),
    ],
)
def test_wrong_options_are_refused_when_the_layer_is_made(make, match):
    with pytest.raises(gt.ArgumentError, match=match):
        make()


# --- initialisation


def test_weights_depend_on_the_seed_alone():
    def weights(seed):
        gt.manual_seed(seed)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(7, 5), nn.Embedding(3, 2), nn.MultiheadAttention(4, 2))
        return b"".join(v.tobytes() for v in model.state_dict().values())

    assert weights(3) == weights(3) != weights(4)


def assert_uniform(values, bound):
    """Within ±bound, and of a uniform distribution's variance to five standard errors (σ of u² is 0.3·bound²)."""
    assert np.abs(values).max() <= bound
    np.testing.assert_allclose((values**2).mean(), bound**2 / 3, atol=5 * 0.3 * bound**2 / np.sqrt(values.size))
    assert abs(values.mean()) < 5 * bound / np.sqrt(3 * values.size)


def test_default_initialisations_are_pytorchs():
    gt.manual_seed(0)
    linear = nn.Linear(100, 200)
    assert_uniform(linear.weight.value, 1 / np.sqrt(100))
    assert_uniform(linear.bias.value, 1 / np.sqrt(100))
    conv = nn.Conv2d(8, 64, 5, groups=2)
    assert_uniform(conv.weight.value, 1 / np.sqrt(4 * 25))
    assert_uniform(conv.bias.value, 1 / np.sqrt(4 * 25))
    assert_uniform(nn.ConvTranspose2d(64, 8, 5).weight.value, 1 / np.sqrt(8 * 25))
    attention = nn.MultiheadAttention(64, 4)
    assert_uniform(attention.in_proj_weight.value, np.sqrt(6 / (4 * 64)))
    assert_uniform(attention.out_proj.weight.value, 1 / np.sqrt(64))
    assert not attention.in_proj_bias.value.any() and not attention.out_proj.bias.value.any()
    table = nn.Embedding(100, 200, padding_idx=-1).weight.value
    assert not table[99].any()
    np.testing.assert_allclose(table[:99].std(), 1.0, atol=5 / np.sqrt(2 * 99 * 200))
    norm = nn.LayerNorm(5)
    assert (norm.weight.value == 1).all() and (norm.bias.value == 0).all()


def test_init_functions():
    gt.manual_seed(0)
    w = nn.Parameter(np.zeros((300, 100), np.float32))
    assert_uniform(nn.init.kaiming_uniform_(w, nonlinearity="relu").value, np.sqrt(2) * np.sqrt(3 / 100))
    assert_uniform(nn.init.xavier_uniform_(w).value, np.sqrt(6 / 400))
    np.testing.assert_allclose(nn.init.kaiming_normal_(w, mode="fan_out").value.std(), np.sqrt(2 / 300), rtol=0.03)
    np.testing.assert_allclose(nn.init.xavier_normal_(w).value.std(), np.sqrt(2 / 400), rtol=0.03)
    assert (nn.init.constant_(w, 3).value == 3).all()
    with pytest.raises(gt.ShapeError, match="2 axes"):
        nn.init.kaiming_uniform_(nn.Parameter([1.0]))
    with pytest.raises(gt.ArgumentError, match="fan_in"):
        nn.init.kaiming_uniform_(w, mode="fan")
    with pytest.raises(gt.ArgumentError, match="no gain"):
        nn.init.kaiming_uniform_(w, nonlinearity="swish")


def test_a_model_in_float64_has_exact_gradients():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))
    assert model.double() is model
    assert {str(c.dtype) for c in [*model.parameters(), model[1].running_var]} == {"float64"}
    assert model[1].num_batches_tracked.dtype == np.int64  # counts stay counts
    gt.check_grads(model.eval(), (np.linspace(-1, 1, 6).reshape(2, 3),))
    assert model.float()[0].weight.dtype == np.float32


@pytest.mark.parametrize("move", [
    lambda m: m.to("bfloat16"),
    lambda m: m.to(np.float16),
    lambda m: m.to("cpu", "float64"),
    lambda m: m.to(dtype=np.dtype("float64")),
])  # fmt: skip
def test_a_compiled_model_follows_to_another_dtype(move):
    layer = nn.Linear(3, 2)
    run = gt.compile(layer.__call__)
    x, kept = np.ones((1, 3), np.float32), layer.weight.numpy()
    run(x)
    move(layer)
    assert run(gt.cast(x, str(layer.weight.dtype))).dtype == layer.weight.dtype != np.float32
    np.testing.assert_allclose(layer.weight.numpy().astype(np.float32), kept, rtol=2**-8)


def test_what_a_model_cannot_become_is_refused():
    layer = nn.Linear(3, 2)
    for dtype in ("int64", "float99", np.bool_):
        with pytest.raises(gt.DTypeError, match="to: parameters cannot be .*float16, bfloat16, float32, float64"):
            layer.to(dtype=dtype)
    with pytest.raises(gt.BackendError, match="'float99' is not a device"):
        layer.to("float99")

    def step(x):
        return layer.double()(x)

    with pytest.raises(gt.CompileError, match=r"Linear: to\(\) changes parameters while step is recorded, at .*:\d+"):
        gt.compile(step)(np.ones((1, 3)))
