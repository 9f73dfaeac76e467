"""A small Llama: parameters and names of LlamaForCausalLM of transformers, only shorter and faster to train."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class Shape:
    """The sizes of the model."""

    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 640
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    initializer_range: float = 0.02

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


class Norm(nn.Module):
    """Root mean square norm, computed in float32 and given back in the type of the matrices."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.hidden_size))
        self.eps = shape.rms_norm_eps

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        x = x.float()
        return (x * (torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight)).to(dtype)


def project(x: Tensor, *layers: nn.Linear) -> Tensor:
    """Several linear layers of one input as one matrix product."""
    weight = torch.cat([layer.weight for layer in layers]) if len(layers) > 1 else layers[0].weight
    return F.linear(x, weight.to(x.dtype))


class Attention(nn.Module):
    """Grouped query attention with rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        queries, keys = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
        self.q_proj = nn.Linear(shape.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(shape.hidden_size, keys, bias=False)
        self.v_proj = nn.Linear(shape.hidden_size, keys, bias=False)
        self.o_proj = nn.Linear(queries, shape.hidden_size, bias=False)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        rows, length, _ = x.shape
        queries, keys = self.shape.num_attention_heads, self.shape.num_key_value_heads
        heads = (
            project(x, self.q_proj, self.k_proj, self.v_proj).view(rows, length, queries + 2 * keys, -1).transpose(1, 2)
        )
        turned = rotate(heads[:, : queries + keys], turns)
        q, k, v = turned[:, :queries], turned[:, queries:], heads[:, queries + keys :]
        k, v = (y.repeat_interleave(queries // keys, 1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return project(y.transpose(1, 2).reshape(rows, length, -1), self.o_proj)


class Mlp(nn.Module):
    """Gated feed-forward part."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = project(x, self.gate_proj, self.up_proj).chunk(2, -1)
        return project(F.silu(gate) * up, self.down_proj)


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.self_attn = Attention(shape)
        self.mlp = Mlp(shape)
        self.input_layernorm = Norm(shape)
        self.post_attention_layernorm = Norm(shape)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], dtype: torch.dtype) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x, dtype), turns)
        return x + self.mlp(self.post_attention_layernorm(x, dtype))


class Decoder(nn.Module):
    """Embeddings, layers and the last norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = Norm(shape)


class Llama(nn.Module):
    """The whole model; output weights are the embeddings. `dtype` is the type of the matrix products."""

    def __init__(self, shape: Shape, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.model = Decoder(shape)
        self.apply(self._start)

    def _start(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=self.shape.initializer_range)

    def forward(self, ids: Tensor, chosen: Tensor) -> Tensor:
        """Logits at the chosen places (indices into the flattened ids)."""
        turns = rotation(ids.shape[1], self.shape, ids.device)
        x = self.model.embed_tokens(ids)
        for layer in self.model.layers:
            x = layer(x, turns, self.dtype)
        x = self.model.norm(x.flatten(0, 1)[chosen], self.dtype)
        return F.linear(x, self.model.embed_tokens.weight.to(self.dtype)).float()


def rotation(length: int, shape: Shape, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary positions."""
    steps = torch.arange(0, shape.head_dim, 2, device=device, dtype=torch.float32) / shape.head_dim
    angles = torch.arange(length, device=device)[:, None].float() * (shape.rope_theta**-steps)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Applies rotary positions to heads of queries or keys."""
    cos, sin = turns
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)
