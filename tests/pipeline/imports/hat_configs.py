"""HAT's YAML files, as a user of HAT has them: in its form, with values of these tests."""

SUPER = """
# model
arch: transformersuper_wmt_en_de
share-all-embeddings: True
max-tokens: 512
data: data/binary/mine

# training settings
optimizer: adam
adam-betas: (0.9, 0.98)
clip-norm: 0.0
weight-decay: 0.0
dropout: 0.3
attention-dropout: 0.1
criterion: label_smoothed_cross_entropy
label-smoothing: 0.2
ddp-backend: no_c10d
fp16: True
update-freq: 16
max-update: 400
warmup-updates: 100
lr-scheduler: cosine
warmup-init-lr: 1e-7
max-lr: 0.001
lr: 1e-6
lr-shrink: 1
keep-last-epochs: 20
save-interval: 10
validate-interval: 10

encoder-embed-dim: 64
decoder-embed-dim: 64
encoder-ffn-embed-dim: 96
decoder-ffn-embed-dim: 96
encoder-layers: 2
decoder-layers: 2
encoder-attention-heads: 4
decoder-attention-heads: 4
qkv-dim: 32
encoder-embed-choice: [64, 32]
decoder-embed-choice: [64, 32]
encoder-ffn-embed-dim-choice: [96, 64]
decoder-ffn-embed-dim-choice: [96, 64]
encoder-layer-num-choice: [2]
decoder-layer-num-choice: [2, 1]
encoder-self-attention-heads-choice: [4, 2]
decoder-self-attention-heads-choice: [4, 2]
decoder-ende-attention-heads-choice: [4, 2]
decoder-arbitrary-ende-attn-choice: [-1, 1]
"""

SUB = """
train-subtransformer: True
arch: transformersuper_wmt_en_de
share-all-embeddings: True
max-tokens: 512
data: data/binary/mine
optimizer: adam
adam-betas: (0.9, 0.98)
clip-norm: 0.0
dropout: 0.3
attention-dropout: 0.1
criterion: label_smoothed_cross_entropy
label-smoothing: 0.1
update-freq: 16
max-update: 300
warmup-updates: 40
lr-scheduler: inverse_sqrt
lr: 0.0005
encoder-embed-dim: 64
qkv-dim: 32
"""

EVOLUTION = """
evo-iter: 30
population-size: 125
parent-size: 25
mutation-size: 50
crossover-size: 50
mutation-prob: 0.3
ckpt-path: ./latency_dataset/predictors/mine.pt
feature-norm: [640, 6, 2048, 6, 640, 6, 2048, 6, 6, 2]
lat-norm: 200
restore-file: ./downloaded_models/super.pt
write-config-path: configs/mine.yml
latency-constraint: 200
"""

DATASET = """
lat-dataset-path: ./latency_dataset/mine.csv
lat-dataset-size: 2000
latcpu: True
latiter: 20
latsilent: True
arch: transformersuper_wmt_en_de
qkv-dim: 32
encoder-embed-choice: [64, 32, 16]
"""

PREDICTOR = """
lat-dataset-path: ./latency_dataset/mine_all.csv
feature-norm: [640, 6, 2048, 6, 640, 6, 2048, 6, 6, 2]
lat-norm: 200
feature-dim: 10
hidden-dim: 400
hidden-layer-num: 3
ckpt-path: ./latency_dataset/predictors/mine.pt
train-steps: 5000
bsz: 128
lr: 1e-5
"""
FILES = {"super": SUPER, "sub": SUB, "evolution": EVOLUTION, "dataset": DATASET, "predictor": PREDICTOR}
