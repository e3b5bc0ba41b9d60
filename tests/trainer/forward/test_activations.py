"""What the shared pass keeps for the backward pass, in elements of distinct storages."""

import torch
from triptych_parser import ImageSpan
from triptych_trainer.forward import GroupBatch, encode_images, plain_logps, shared_logps

P, C, G = 1024, 32, 8


def saved_elements(call) -> int:
    storages = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        kept.append(tensor)
        return tensor

    kept = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    assert result[0].requires_grad
    return sum(storages.values())


def test_activations_are_at_most_a_quarter_at_eight_completions(lab):
    model = lab.qwen2_5_vl().train()
    generator = torch.Generator().manual_seed(0)
    image = lab.qwen_image(generator, height=32, width=32)  # 256 rows
    ids, spans = [], []
    for k in range(4):
        spans.append(ImageSpan(start=len(ids), length=258, image=k, runs=((len(ids) + 1, 256),)))
        ids += [lab.START, *[lab.IMAGE] * 256, lab.END, 5]
    ids = ids[: P + 12]
    completions = torch.randint(1, 89, (G, C), generator=generator).tolist()
    batch = GroupBatch.build([ids], spans=[spans], images=[image] * 4, completions=[completions])
    weights = sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        features = encode_images(model, batch.images)
    shared = saved_elements(lambda: shared_logps(model, batch, features=features)) - weights
    plain = saved_elements(lambda: plain_logps(model, batch, features=features)) - weights
    assert shared < plain / 4
