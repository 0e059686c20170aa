"""Encoders of sequences and texts: padding, lengths, pretrained models."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from rcml_misa.exceptions import OptionError
from rcml_misa.nn import pretrained
from rcml_misa.nn.encoders import (
    DeepEncoders,
    EncodedProjection,
    Padded,
    RecurrentEncoder,
    SequenceEncoderKind,
    TableEncoder,
    WordEncoder,
    sequence_encoder,
)
from rcml_misa.nn.pretrained import (
    PretrainedText,
    half_precision,
    split_frozen,
    text_model_path,
)

KINDS = get_args(SequenceEncoderKind)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind) -> None:
    torch.manual_seed(0)
    encoder = sequence_encoder(kind, 3, hidden=4).double().eval()
    values, lengths = torch.randn(3, 6, 3, dtype=torch.double), torch.tensor([6, 2, 4])
    together = encoder(Padded(values, lengths))
    assert together.shape == (3, encoder.outputs)
    for row, length in enumerate(lengths):
        alone = encoder(Padded(values[row : row + 1, :length], lengths[row : row + 1]))
        torch.testing.assert_close(together[row : row + 1], alone)


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_recurrent_encoder_is_misas(kind) -> None:
    """Against torch's own layers run one row at a time, without packing."""
    torch.manual_seed(1)
    encoder = RecurrentEncoder(2, hidden=3, kind=kind).double()
    values, lengths = torch.randn(2, 5, 2, dtype=torch.double), torch.tensor([5, 3])
    found = encoder(Padded(values, lengths))
    for row, length in enumerate(lengths):
        first, state_1 = encoder.first(values[row : row + 1, :length])
        _, state_2 = encoder.second(nn.functional.layer_norm(first, (6,)))
        last = [state[0] if kind == "lstm" else state for state in (state_1, state_2)]
        torch.testing.assert_close(found[row], torch.cat(last).flatten())


def test_words_encode_by_number() -> None:
    torch.manual_seed(0)
    encoder = WordEncoder(5, width=4, hidden=3, kind="mean").eval()
    vectors = encoder(Padded(torch.tensor([[2, 3, 0], [3, 2, 4]]), torch.tensor([2, 3])))
    torch.testing.assert_close(vectors[0], encoder.embed.weight[[2, 3]].mean(dim=0))


def test_projection_of_encoders_is_order_of_views() -> None:
    torch.manual_seed(0)
    project = EncodedProjection([TableEncoder(3), sequence_encoder("mean", 2, hidden=4)], hidden=5)
    table, steps = torch.randn(4, 3), Padded(torch.randn(4, 2, 2), torch.tensor([2, 1, 2, 1]))
    assert project([table, steps]).shape == (2, 4, 5)


def plain_encoders(encode: DeepEncoders, width: int) -> list[nn.Sequential]:
    """Per view, the layers of `DeepEncoders` one after the other, with copies of its weights."""
    stacks = []
    for view, first in enumerate(encode.first):
        layers: list[nn.Module] = []
        columns = slice(view * width, (view + 1) * width)
        for depth, norm in enumerate(encode.norms):
            weight, bias = first.weight, None
            if depth:
                deeper = encode.deeper[depth - 1]
                weight, bias = deeper.weight[view].T, deeper.bias[view, 0]
            linear = nn.Linear(weight.shape[1], width, bias=bias is not None).double()
            plain = nn.BatchNorm1d(width).double()
            with torch.no_grad():
                linear.weight.copy_(weight)
                if bias is not None:
                    linear.bias.copy_(bias)
                for name, values in norm.state_dict().items():
                    plain.state_dict()[name].copy_(values[columns])
            layers += [linear, plain, nn.ReLU()]
        stacks.append(nn.Sequential(*layers))
    return stacks


def deep_encoders(depth: int, *, dropout: float = 0.0) -> tuple[DeepEncoders, list[torch.Tensor]]:
    """Encoders of three tables in float64, norms moved away from their start, and 7 rows."""
    torch.manual_seed(0)
    widths = (3, 5, 2)
    tables = [TableEncoder(width) for width in widths]
    encode = DeepEncoders(tables, width=4, depth=depth, dropout=dropout).double()
    for norm in encode.norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return encode, [torch.randn(7, width, dtype=torch.double) for width in widths]


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_deep_encoders_are_plain_layers_view_by_view(depth, training) -> None:
    encode, views = deep_encoders(depth)
    stacks = [stack.train(training) for stack in plain_encoders(encode.train(training), 4)]
    found = encode(views)
    wanted = torch.stack([stack(view) for stack, view in zip(stacks, views, strict=True)])
    assert found.shape == (3, 7, 4)
    torch.testing.assert_close(found, wanted)
    for output in (found, wanted):
        (output * torch.arange(12.0).view(3, 1, 4)).sum().backward()
    for view, stack in enumerate(stacks):
        columns = slice(4 * view, 4 * view + 4)
        torch.testing.assert_close(encode.first[view].weight.grad, stack[0].weight.grad)
        for layer, norm in enumerate(encode.norms):
            linear, plain = stack[3 * layer], stack[3 * layer + 1]
            if layer:
                gradient = encode.deeper[layer - 1].weight.grad[view]
                torch.testing.assert_close(gradient, linear.weight.grad.T)
            for name in ("weight", "bias"):
                gradient = getattr(norm, name).grad[columns]
                torch.testing.assert_close(gradient, getattr(plain, name).grad)
            for name in ("running_mean", "running_var"):  # moved by the pass in training
                torch.testing.assert_close(getattr(norm, name)[columns], getattr(plain, name))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_batch_of_one_row_takes_the_running_statistics(depth) -> None:
    encode, views = deep_encoders(depth)
    encode.train()(views)
    before = {name: value.clone() for name, value in encode.state_dict().items()}
    row = encode([view[:1] for view in views])
    torch.testing.assert_close(encode.state_dict(), before)
    torch.testing.assert_close(row, encode.eval()(views)[:, :1])
    row.sum().backward()
    gradients = [parameter.grad for parameter in encode.parameters()]
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("training", [True, False])
def test_no_row_gives_no_row(training) -> None:
    encode, views = deep_encoders(2)
    assert encode.train(training)([view[:0] for view in views]).shape == (3, 0, 4)


def test_entries_of_each_layer_are_dropped_in_training_only() -> None:
    encode, views = deep_encoders(1, dropout=0.25)
    whole, _ = deep_encoders(1)
    found, wanted = encode(views), whole(views)
    dropped = (found == 0) & (wanted > 0)
    assert 0.05 < float(dropped.double().sum() / (wanted > 0).sum()) < 0.6
    torch.testing.assert_close(found[~dropped], wanted[~dropped] / 0.75)
    torch.testing.assert_close(encode.eval()(views), whole.eval()(views))


@pytest.mark.parametrize("training", [True, False])
def test_tables_and_sequences_run_through_the_same_layers(training) -> None:
    """A sequence of one step, pooled, is the table of its steps."""
    torch.manual_seed(0)
    kinds = [TableEncoder(3), sequence_encoder("mean", 2, hidden=4)]
    mixed = DeepEncoders(kinds, width=4, depth=2, dropout=0.0).double().train(training)
    tables = DeepEncoders([TableEncoder(3), TableEncoder(2)], width=4, depth=2, dropout=0.0)
    tables.double().train(training).load_state_dict(mixed.state_dict())
    table, steps = torch.randn(5, 3, dtype=torch.double), torch.randn(5, 1, 2, dtype=torch.double)
    found = mixed([table, Padded(steps, torch.ones(5, dtype=torch.long))])
    torch.testing.assert_close(found, tables([table, steps[:, 0]]))


@pytest.mark.parametrize("kind", KINDS)
def test_deep_encoders_train_the_encoder_of_a_sequence(kind) -> None:
    torch.manual_seed(0)
    kinds = [TableEncoder(3), sequence_encoder(kind, 2, hidden=4)]
    encode = DeepEncoders(kinds, width=4, depth=2, dropout=0.0)
    assert encode.first[1].in_features == kinds[1].outputs
    steps = Padded(torch.randn(5, 3, 2), torch.tensor([3, 1, 2, 3, 2]))
    (encode([torch.randn(5, 3), steps]) * torch.randn(2, 5, 4)).sum().backward()
    for parameter in kinds[1].parameters():
        assert parameter.grad is not None
    moved = [parameter.grad.abs().max() > 0 for parameter in kinds[1].parameters()]
    assert not moved or any(moved)


def test_packaged_model() -> None:
    encoder = PretrainedText("minilm", trained_layers=2).eval()
    assert encoder.outputs == 384
    trained = {name for name, one in encoder.named_parameters() if one.requires_grad}
    assert {name.split(".")[3] for name in trained} == {"4", "5"}
    tokens = torch.tensor([[101, 2204, 3185, 102, 0], [101, 2919, 102, 0, 0]])
    lengths = torch.tensor([4, 3])
    with torch.no_grad():
        both = encoder(Padded(tokens, lengths))
        alone = encoder(Padded(tokens[1:, :3], lengths[1:]))
        states = encoder.model(tokens[1:, :3])[0].mean(dim=1)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(alone, states, atol=1e-5, rtol=1e-4)
    everything = PretrainedText("minilm", trained_layers=None)
    assert all(one.requires_grad for one in everything.parameters())


def test_bfloat16_is_near_float32() -> None:
    tokens = Padded(torch.tensor([[101, 2204, 3185, 102]]), torch.tensor([4]))
    full, half = (PretrainedText("minilm", trained_layers=0, half=h).eval() for h in (False, True))
    with torch.no_grad():
        a, b = full(tokens), half(tokens)
    assert b.dtype == torch.float32
    assert float(torch.cosine_similarity(a, b)) > 0.999
    assert half_precision("bfloat16", torch.device("cpu"))


def test_a_missing_extra_is_told_with_the_way_out(monkeypatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"needs transformers.*rcml-misa\[text\].*'words'"):
        text_model_path("minilm")


def test_a_folder_that_is_no_model_is_refused(tmp_path) -> None:
    with pytest.raises(OptionError, match="can't be loaded"):
        PretrainedText(str(tmp_path), trained_layers=0)


def test_a_local_folder_serves(tmp_path) -> None:
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
    )
    BertModel(config).save_pretrained(tmp_path)
    encoder = PretrainedText(str(tmp_path), trained_layers=1)
    assert encoder.outputs == 8
    assert encoder(Padded(torch.tensor([[1, 2]]), torch.tensor([2]))).shape == (1, 8)


@pytest.mark.parametrize("trained", [1, 4])
def test_frozen_layers_apart_change_nothing(trained) -> None:
    whole = PretrainedText("minilm", trained_layers=trained).eval()
    upper = PretrainedText("minilm", trained_layers=trained).eval()
    lower = split_frozen(upper)
    tokens = Padded(
        torch.tensor([[101, 2204, 3185, 102], [101, 2919, 102, 0]]), torch.tensor([4, 3])
    )
    with torch.no_grad():
        states = lower.states(tokens)
        torch.testing.assert_close(upper(Padded(states, tokens.lengths)), whole(tokens))
    assert not any(one.requires_grad for one in lower.parameters())
    assert sum(one.numel() for one in upper.model.encoder.parameters()) == trained * 1774464
    assert split_frozen(PretrainedText("minilm", trained_layers=6)) is not None
    assert split_frozen(PretrainedText("minilm", trained_layers=None)) is None
