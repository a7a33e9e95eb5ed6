"""What the decoder attends to, computed once more head by head and without a cache."""

import torch

from hat_ray.model.subtransformer import SubTransformer

EOS = 2


def plain_attention(model: SubTransformer, source: list[int], tokens: list[int]) -> torch.Tensor:
    """Return the shares (T, S) of the source in the last layer's attention, the mean of its heads: head by head."""
    shape, layer = model.architecture, model.decoder.layer(model.architecture.decoder.depth - 1)
    seen: list[torch.Tensor] = []
    hook = layer.self_attn_layer_norm.register_forward_hook(lambda module, given, made: seen.append(made))
    with torch.inference_mode():
        model(torch.tensor([source]), torch.tensor([[EOS, *tokens[:-1]]]))
        hook.remove()
        memory = model.encoder(torch.tensor([source]), shape)
        heads, reach, width = shape.decoder.cross_heads[-1], shape.decoder.cross_layers[-1], shape.qkv_dim
        size, shares = width // heads, torch.zeros(len(tokens), len(source))
        weights, biases = layer.encoder_attn.key_value_weights()
        query, bias = layer.encoder_attn.query_weights()
        keys = [memory.outputs[-1 - back][0] @ weights[0].T + biases[0] for back in range(reach)]
        q = seen[-1][0] @ query.T + bias
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = torch.cat([q[:, own] @ each[:, own].T for each in keys], 1) / size**0.5
            shares += sum(scores.softmax(1).split(len(source), 1)) / heads
    return shares
