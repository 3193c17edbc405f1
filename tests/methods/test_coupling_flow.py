"""The flow against autograd and against FrEIA's coupling block, in float64."""

import pytest
import torch
from FrEIA.framework import SequenceINN
from FrEIA.modules import GLOWCouplingBlock
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from gsmflow.methods.coupling_flow import ConditionalFlow, ConditionBlocks, CouplingBlock
from tests.builders import seeded

MODES: list[ConditionBlocks] = ["all", "first"]


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def make_flow(
    d: int = 5,
    h: int = 3,
    *,
    blocks: int = 3,
    hidden: int = 6,
    mode: ConditionBlocks = "all",
    seed: int = 0,
) -> ConditionalFlow:
    """With weights large enough that the map is far from the identity."""
    flow = ConditionalFlow(
        d, h, blocks=blocks, hidden=hidden, condition_blocks=mode, generator=seeded(seed)
    ).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.mul_(50)
    return flow


def make_block(d: int, *, conditional: bool = True) -> CouplingBlock:
    block = CouplingBlock([(d,)], [(12,)] if conditional else [], hidden=6).double()
    generator = seeded(7)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return block


def make_rows(n: int, d: int, h: int, classes: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    rows = torch.randint(classes, (n,), generator=seeded(seed))
    return 2 * randn(n, d, seed=seed + 1), randn(classes, h, seed=seed + 2), rows


def freia_subnet(dim_in: int, dim_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim_in, 6), nn.LeakyReLU(0.2), nn.Linear(6, dim_out)).double()


def copy_to_freia(block: CouplingBlock, projection: Tensor | None, freia: nn.Module) -> None:
    """FrEIA's subnet2 acts on the first half, its subnet1 on the second."""
    pairs = ((block.from_second, freia.subnet2), (block.from_first, freia.subnet1))
    with torch.no_grad():
        for half, (ours, theirs) in enumerate(pairs):
            columns = [ours.input.weight]
            if projection is not None:
                columns.append(projection.chunk(2)[half])
            theirs[0].weight.copy_(torch.cat(columns, dim=1))
            theirs[0].bias.copy_(ours.input.bias)
            theirs[2].load_state_dict(ours.output.state_dict())


@settings(deadline=None, max_examples=40)
@given(
    d=st.integers(2, 9),
    h=st.integers(1, 4),
    blocks=st.integers(1, 4),
    hidden=st.integers(1, 8),
    n=st.integers(1, 6),
    classes=st.integers(1, 4),
    mode=st.sampled_from(MODES),
    seed=st.integers(0, 10_000),
)
def test_inverse_undoes_forward_and_forward_undoes_inverse(
    d: int,
    h: int,
    blocks: int,
    hidden: int,
    n: int,
    classes: int,
    mode: ConditionBlocks,
    seed: int,
) -> None:
    flow = make_flow(d, h, blocks=blocks, hidden=hidden, mode=mode, seed=seed)
    x, condition, rows = make_rows(n, d, h, classes, seed)
    z, log_det = flow(x, flow.offsets(condition), rows)
    assert z.shape == x.shape
    assert log_det.shape == (n,)
    torch.testing.assert_close(
        flow.inverse(z, flow.offsets(condition), rows), x, rtol=1e-9, atol=1e-9
    )
    back, _ = flow(flow.inverse(x, flow.offsets(condition), rows), flow.offsets(condition), rows)
    torch.testing.assert_close(back, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("d", [2, 3, 6, 7])
def test_log_det_equals_the_autograd_jacobian(d: int, mode: ConditionBlocks) -> None:
    flow = make_flow(d, mode=mode)
    x, condition, rows = make_rows(4, d, 3, classes=3)
    _, log_det = flow(x, flow.offsets(condition), rows)
    # z's row i depends on x's row i alone, so the sum over rows has every row's Jacobian.
    jacobian = torch.autograd.functional.jacobian(
        lambda v: flow(v, flow.offsets(condition), rows)[0].sum(0), x
    )
    sign, expected = torch.linalg.slogdet(jacobian.transpose(0, 1))
    assert (sign > 0).all()
    assert log_det.detach().abs().min() > 1e-3
    torch.testing.assert_close(log_det, expected)


def test_row_depends_on_itself_and_its_class_alone() -> None:
    flow = make_flow()
    x, condition, rows = make_rows(6, 5, 3, classes=3)
    z, log_det = flow(x, flow.offsets(condition), rows)
    for i, c in enumerate(rows.tolist()):
        alone, alone_log_det = flow(
            x[i : i + 1], flow.offsets(condition[c : c + 1]), torch.tensor([0])
        )
        torch.testing.assert_close(alone[0], z[i])
        torch.testing.assert_close(alone_log_det[0], log_det[i])


@pytest.mark.parametrize("d", [2, 5])
def test_block_log_dets_of_both_directions_are_opposite(d: int) -> None:
    block = make_block(d)
    x, c = randn(4, d, seed=0), randn(4, 12, seed=1)
    (y,), forward = block([x], [c])
    (back,), reverse = block([y], [c], rev=True)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(reverse, -forward)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_of_features_and_condition_equal_finite_differences(
    mode: ConditionBlocks,
) -> None:
    flow = make_flow(3, 2, blocks=2, hidden=4, mode=mode)
    x, condition, rows = make_rows(3, 3, 2, classes=2)
    inputs = (x.requires_grad_(), condition.requires_grad_())
    assert torch.autograd.gradcheck(lambda v, c: flow(v, flow.offsets(c), rows), inputs)
    assert torch.autograd.gradcheck(lambda v, c: flow.inverse(v, flow.offsets(c), rows), inputs)


@pytest.mark.parametrize("rev", [False, True])
@pytest.mark.parametrize("conditional", [True, False])
@pytest.mark.parametrize("d", [2, 5, 6])
def test_block_equals_freia_block_with_concatenated_condition(
    d: int, conditional: bool, rev: bool
) -> None:
    h = 3
    block = make_block(d, conditional=conditional)
    freia = GLOWCouplingBlock(
        dims_in=[(d,)],
        dims_c=[(h,)] if conditional else [],
        subnet_constructor=freia_subnet,
        clamp=1.0,
        split_len=d // 2,
    )
    projection = randn(12, h, seed=2) if conditional else None
    copy_to_freia(block, projection, freia)
    x, condition = 2 * randn(4, d, seed=3), randn(4, h, seed=4)
    offsets = [] if projection is None else [condition @ projection.T]
    (ours,), log_det = block([x], offsets, rev=rev)
    (theirs,), their_log_det = freia([x], [condition] if conditional else [], rev=rev)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(log_det, their_log_det)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("d", [2, 5])
def test_flow_equals_freia_sequence_of_freia_blocks(d: int, mode: ConditionBlocks) -> None:
    h, blocks = 3, 3
    flow = make_flow(d, h, blocks=blocks, mode=mode)
    freia = SequenceINN(d)
    for k in range(blocks):
        conditional = mode == "all" or k == 0
        options = {"cond": 0, "cond_shape": (h,)} if conditional else {}
        freia.append(
            GLOWCouplingBlock,
            subnet_constructor=freia_subnet,
            clamp=1.0,
            split_len=d // 2,
            **options,
        )
        projection = flow.projections[k].weight if conditional else None
        copy_to_freia(flow.inn[k], projection, freia[k])
    x, condition, rows = make_rows(6, d, h, classes=3)
    z, log_det = flow(x, flow.offsets(condition), rows)
    their_z, their_log_det = freia(x, c=[condition[rows]])
    torch.testing.assert_close(z, their_z)
    torch.testing.assert_close(log_det, their_log_det)
    their_x, _ = freia(x, c=[condition[rows]], rev=True)
    torch.testing.assert_close(flow.inverse(x, flow.offsets(condition), rows), their_x)


def test_initial_parameters_are_a_hundredth_of_a_standard_gaussian() -> None:
    flow = ConditionalFlow(60, 40, blocks=4, hidden=80, generator=seeded(0))
    parameters = dict(flow.named_parameters())
    biases = torch.cat([p.detach() for name, p in parameters.items() if name.endswith("bias")])
    weights = [p.detach().flatten() for name, p in parameters.items() if name.endswith("weight")]
    for values in (biases, *weights):
        # five standard errors
        assert abs(values.mean()) < 5 * 0.01 / len(values) ** 0.5
        assert abs(values.std() - 0.01) < 5 * 0.01 / (2 * len(values)) ** 0.5
    assert len(biases) == 4 * (2 * 80 + 2 * 60)


def test_untrained_flow_is_close_to_the_identity() -> None:
    flow = ConditionalFlow(6, 3, blocks=3, hidden=6, generator=seeded(0)).double()
    x, condition, rows = make_rows(4, 6, 3, classes=2)
    torch.testing.assert_close(flow(x, flow.offsets(condition), rows)[0], x, rtol=0, atol=0.15)


@pytest.mark.parametrize("mode", MODES)
def test_paths_with_and_without_gradients_agree(mode: ConditionBlocks) -> None:
    flow = make_flow(mode=mode)
    x, condition, rows = make_rows(7, 5, 3, classes=3)
    offsets = flow.offsets(condition)
    with_gradients = (*flow(x, offsets, rows), flow.inverse(x, offsets, rows))
    with torch.no_grad():
        without = (*flow(x, offsets, rows), flow.inverse(x, offsets, rows))
    for ours, expected in zip(without, with_gradients, strict=True):
        assert expected.requires_grad
        assert not ours.requires_grad
        torch.testing.assert_close(ours, expected)


def test_gradient_of_the_condition_equals_that_of_a_gather() -> None:
    flow = make_flow()
    x, condition, rows = make_rows(7, 5, 3, classes=4)
    rows[rows == 2] = 0
    per_class = condition.clone().requires_grad_()
    flow(x, flow.offsets(per_class), rows)[0].square().sum().backward()
    per_row = condition[rows].requires_grad_()
    flow(x, flow.offsets(per_row))[0].square().sum().backward()
    expected = torch.zeros_like(condition).index_add(0, rows, per_row.grad)
    torch.testing.assert_close(per_class.grad, expected)
    assert not expected[2].any()


def test_condition_first_reaches_the_first_block_alone() -> None:
    every, first = make_flow(mode="all"), make_flow(mode="first")
    assert len(every.projections) == 3
    assert len(first.projections) == 1
    first.inn.load_state_dict(every.inn.state_dict())
    first.projections[0].load_state_dict(every.projections[0].state_dict())
    x, condition, rows = make_rows(4, 5, 3, classes=2)
    z = first(x, first.offsets(condition), rows)[0]
    assert not torch.allclose(every(x, every.offsets(condition), rows)[0], z)
    for projection in every.projections[1:]:
        nn.init.zeros_(projection.weight)
    torch.testing.assert_close(every(x, every.offsets(condition), rows)[0], z)


@pytest.mark.parametrize("mode", MODES)
def test_output_depends_on_the_condition(mode: ConditionBlocks) -> None:
    flow = make_flow(mode=mode)
    x, condition, _ = make_rows(4, 5, 3, classes=2)
    first, second = (flow(x, flow.offsets(condition), torch.full((4,), c))[0] for c in (0, 1))
    assert ((first - second).abs() > 1e-3).all()


def test_initial_weights_depend_on_the_generator_alone() -> None:
    weights = [nn.utils.parameters_to_vector(make_flow(seed=s).parameters()) for s in (3, 3, 4)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_construction_does_not_use_the_global_generator() -> None:
    before = torch.get_rng_state()
    make_flow()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("reached", [True, False])
def test_separate_offsets_equal_those_of_a_detached_condition(reached: bool) -> None:
    flow, condition = make_flow(), randn(4, 3, seed=1).requires_grad_(reached)
    found: list[tuple[Tensor, ...]] = []
    inputs = (*([condition] if reached else []), *flow.projections.parameters())
    for pair in (
        flow.offsets_and_apart(condition),
        (flow.offsets(condition), flow.offsets(condition.detach())),
    ):
        values = [torch.cat(offsets, dim=1) for offsets in pair]
        loss = values[0].sin().sum() + (2 * values[1]).cos().sum()
        found.append((*values, *torch.autograd.grad(loss, inputs)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)
