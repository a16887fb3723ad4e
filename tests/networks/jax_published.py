"""The models of the public examples of Flax and Equinox, as their users copy them: text, input shapes, parameters."""

from __future__ import annotations

FLAX_CNN = '''
from flax import nnx  # The Flax NNX API.
from functools import partial

class CNN(nnx.Module):
  """A simple CNN model."""

  def __init__(self, *, rngs: nnx.Rngs):
    self.conv1 = nnx.Conv(1, 32, kernel_size=(3, 3), rngs=rngs)
    self.batch_norm1 = nnx.BatchNorm(32, rngs=rngs)
    self.dropout1 = nnx.Dropout(rate=0.025, deterministic=True)
    self.conv2 = nnx.Conv(32, 64, kernel_size=(3, 3), rngs=rngs)
    self.batch_norm2 = nnx.BatchNorm(64, rngs=rngs)
    self.avg_pool = partial(nnx.avg_pool, window_shape=(2, 2), strides=(2, 2))
    self.linear1 = nnx.Linear(3136, 256, rngs=rngs)
    self.dropout2 = nnx.Dropout(rate=0.025, deterministic=True)
    self.linear2 = nnx.Linear(256, 10, rngs=rngs)

  def __call__(self, x, rngs: nnx.Rngs | None = None):
    x = self.avg_pool(nnx.relu(self.batch_norm1(self.dropout1(self.conv1(x), rngs=rngs))))
    x = self.avg_pool(nnx.relu(self.batch_norm2(self.conv2(x))))
    x = x.reshape(x.shape[0], -1)  # flatten
    x = nnx.relu(self.dropout2(self.linear1(x), rngs=rngs))
    x = self.linear2(x)
    return x

# Instantiate the model.
model = CNN(rngs=nnx.Rngs(0))
'''

FLAX_VAE = """
import typing as tp
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

image_shape: tp.Sequence[int] = (28, 28)

class Loss(nnx.Variable):
  pass

class Encoder(nnx.Module):
  def __init__(self, din: int, dmid: int, dout: int, *, rngs: nnx.Rngs):
    self.linear1 = nnx.Linear(din, dmid, rngs=rngs)
    self.linear_mean = nnx.Linear(dmid, dout, rngs=rngs)
    self.linear_std = nnx.Linear(dmid, dout, rngs=rngs)
    self.rngs = rngs

  def __call__(self, x: jax.Array) -> jax.Array:
    x = x.reshape((x.shape[0], -1))  # flatten
    x = self.linear1(x)
    x = jax.nn.relu(x)
    mean = self.linear_mean(x)
    std = jnp.exp(self.linear_std(x))
    self.kl_loss = Loss(jnp.mean(0.5 * jnp.mean(-jnp.log(std**2) - 1.0 + std**2 + mean**2, axis=-1)))
    key = self.rngs.noise()
    z = mean + std * jax.random.normal(key, mean.shape)
    return z

class Decoder(nnx.Module):
  def __init__(self, din: int, dmid: int, dout: int, *, rngs: nnx.Rngs):
    self.linear1 = nnx.Linear(din, dmid, rngs=rngs)
    self.linear2 = nnx.Linear(dmid, dout, rngs=rngs)

  def __call__(self, z: jax.Array) -> jax.Array:
    z = self.linear1(z)
    z = jax.nn.relu(z)
    return self.linear2(z)

class VAE(nnx.Module):
  def __init__(self, din: int, hidden_size: int, latent_size: int, output_shape: tp.Sequence[int], *, rngs: nnx.Rngs):
    self.output_shape = output_shape
    self.encoder = Encoder(din, hidden_size, latent_size, rngs=rngs)
    self.decoder = Decoder(latent_size, hidden_size, int(np.prod(output_shape)), rngs=rngs)

  def __call__(self, x: jax.Array) -> jax.Array:
    z = self.encoder(x)
    logits = self.decoder(z)
    return jnp.reshape(logits, (-1, *self.output_shape))

model = VAE(din=int(np.prod(image_shape)), hidden_size=256, latent_size=32, output_shape=image_shape,
            rngs=nnx.Rngs(0, noise=1))
"""

LINEN_CNN = '''
from flax import linen as nn  # Linen API

class CNN(nn.Module):
  """A simple CNN model."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(features=32, kernel_size=(3, 3))(x)
    x = nn.relu(x)
    x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
    x = nn.Conv(features=64, kernel_size=(3, 3))(x)
    x = nn.relu(x)
    x = nn.avg_pool(x, window_shape=(2, 2), strides=(2, 2))
    x = x.reshape((x.shape[0], -1))  # flatten
    x = nn.Dense(features=256)(x)
    x = nn.relu(x)
    x = nn.Dense(features=10)(x)
    return x

model = CNN()
'''

LINEN_RESNET = '''
from functools import partial
from typing import Any
from collections.abc import Callable, Sequence

from flax import linen as nn
import jax.numpy as jnp

ModuleDef = Any

class ResNetBlock(nn.Module):
  """ResNet block."""

  filters: int
  conv: ModuleDef
  norm: ModuleDef
  act: Callable
  strides: tuple[int, int] = (1, 1)

  @nn.compact
  def __call__(self, x):
    residual = x
    y = self.conv(self.filters, (3, 3), self.strides)(x)
    y = self.norm()(y)
    y = self.act(y)
    y = self.conv(self.filters, (3, 3))(y)
    y = self.norm(scale_init=nn.initializers.zeros_init())(y)

    if residual.shape != y.shape:
      residual = self.conv(self.filters, (1, 1), self.strides, name='conv_proj')(residual)
      residual = self.norm(name='norm_proj')(residual)

    return self.act(residual + y)

class ResNet(nn.Module):
  """ResNetV1.5."""

  stage_sizes: Sequence[int]
  block_cls: ModuleDef
  num_classes: int
  num_filters: int = 64
  dtype: Any = jnp.float32
  act: Callable = nn.relu
  conv: ModuleDef = nn.Conv

  @nn.compact
  def __call__(self, x, train: bool = False):
    conv = partial(self.conv, use_bias=False, dtype=self.dtype)
    norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=self.dtype,
                   axis_name='batch')

    x = conv(self.num_filters, (7, 7), (2, 2), padding=[(3, 3), (3, 3)], name='conv_init')(x)
    x = norm(name='bn_init')(x)
    x = nn.relu(x)
    x = nn.max_pool(x, (3, 3), strides=(2, 2), padding='SAME')
    for i, block_size in enumerate(self.stage_sizes):
      for j in range(block_size):
        strides = (2, 2) if i > 0 and j == 0 else (1, 1)
        x = self.block_cls(self.num_filters * 2**i, strides=strides, conv=conv, norm=norm, act=self.act)(x)
    x = jnp.mean(x, axis=(1, 2))
    x = nn.Dense(self.num_classes, dtype=self.dtype)(x)
    x = jnp.asarray(x, self.dtype)
    return x

ResNet18 = partial(ResNet, stage_sizes=[2, 2, 2, 2], block_cls=ResNetBlock)
model = ResNet18(num_classes=10)
'''

LINEN_VAE = '''
from flax import linen as nn
from jax import random
import jax.numpy as jnp

class Encoder(nn.Module):
  """VAE Encoder."""

  latents: int

  @nn.compact
  def __call__(self, x):
    x = nn.Dense(500, name='fc1')(x)
    x = nn.relu(x)
    mean_x = nn.Dense(self.latents, name='fc2_mean')(x)
    logvar_x = nn.Dense(self.latents, name='fc2_logvar')(x)
    return mean_x, logvar_x

class Decoder(nn.Module):
  """VAE Decoder."""

  @nn.compact
  def __call__(self, z):
    z = nn.Dense(500, name='fc1')(z)
    z = nn.relu(z)
    z = nn.Dense(784, name='fc2')(z)
    return z

class VAE(nn.Module):
  """Full VAE model."""

  latents: int = 20

  def setup(self):
    self.encoder = Encoder(self.latents)
    self.decoder = Decoder()

  def __call__(self, x, z_rng=random.key(0)):
    mean, logvar = self.encoder(x)
    z = reparameterize(z_rng, mean, logvar)
    recon_x = self.decoder(z)
    return recon_x, mean, logvar

def reparameterize(rng, mean, logvar):
  std = jnp.exp(0.5 * logvar)
  eps = random.normal(rng, logvar.shape)
  return mean + eps * std

model = VAE(latents=20)
'''

EQUINOX_CNN = """
import equinox as eqx
import jax
import jax.numpy as jnp

key = jax.random.PRNGKey(5678)

class CNN(eqx.Module):
    layers: list

    def __init__(self, key):
        key1, key2, key3, key4 = jax.random.split(key, 4)
        # Standard CNN setup: convolutional layer, followed by flattening,
        # with a small MLP on top.
        self.layers = [
            eqx.nn.Conv2d(1, 3, kernel_size=4, key=key1),
            eqx.nn.MaxPool2d(kernel_size=2),
            jax.nn.relu,
            jnp.ravel,
            eqx.nn.Linear(1728, 512, key=key2),
            jax.nn.sigmoid,
            eqx.nn.Linear(512, 64, key=key3),
            jax.nn.relu,
            eqx.nn.Linear(64, 10, key=key4),
            jax.nn.log_softmax,
        ]

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

key, subkey = jax.random.split(key, 2)
model = CNN(subkey)
"""

EQUINOX_GAN = """
import equinox as eqx
import jax
import jax.random as jr

class Discriminator(eqx.Module):
    layers: list

    def __init__(self, input_shape: tuple[int, int, int], key):
        keys = jr.split(key, 5)
        height, width, channels = input_shape
        self.layers = [
            eqx.nn.Conv2d(in_channels=channels, out_channels=width, kernel_size=4, stride=2, padding=1, use_bias=False,
                          key=keys[0]),
            eqx.nn.PReLU(0.2),
            eqx.nn.Conv2d(width, width * 2, kernel_size=4, stride=2, padding=1, use_bias=False, key=keys[1]),
            eqx.nn.BatchNorm(width * 2, axis_name="batch", mode="batch"),
            eqx.nn.PReLU(0.2),
            eqx.nn.Conv2d(width * 2, 1, kernel_size=4, stride=1, padding=0, use_bias=False, key=keys[4]),
            jax.nn.sigmoid,
        ]

    def __call__(self, x, state):
        for layer in self.layers:
            if isinstance(layer, eqx.nn.BatchNorm):
                x, state = layer(x, state=state)
            else:
                x = layer(x)
        return x, state

model, state = eqx.nn.make_with_state(Discriminator)((16, 16, 3), jr.key(0))
"""

EQUINOX_UNET = """
import math
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from einops import rearrange

class SinusoidalPosEmb(eqx.Module):
    emb: jax.Array

    def __init__(self, dim):
        half_dim = dim // 2
        emb = math.log(10000) / (half_dim - 1)
        self.emb = jnp.exp(jnp.arange(half_dim) * -emb)

    def __call__(self, x):
        emb = x * self.emb
        emb = jnp.concatenate((jnp.sin(emb), jnp.cos(emb)), axis=-1)
        return emb

class LinearTimeSelfAttention(eqx.Module):
    group_norm: eqx.nn.GroupNorm
    heads: int
    to_qkv: eqx.nn.Conv2d
    to_out: eqx.nn.Conv2d

    def __init__(self, dim, key, heads=4, dim_head=32):
        keys = jax.random.split(key, 2)
        self.group_norm = eqx.nn.GroupNorm(min(dim // 4, 32), dim)
        self.heads = heads
        hidden_dim = dim_head * heads
        self.to_qkv = eqx.nn.Conv2d(dim, hidden_dim * 3, 1, key=keys[0])
        self.to_out = eqx.nn.Conv2d(hidden_dim, dim, 1, key=keys[1])

    def __call__(self, x):
        c, h, w = x.shape
        x = self.group_norm(x)
        qkv = self.to_qkv(x)
        q, k, v = rearrange(qkv, "(qkv heads c) h w -> qkv heads c (h w)", heads=self.heads, qkv=3)
        k = jax.nn.softmax(k, axis=-1)
        context = jnp.einsum("hdn,hen->hde", k, v)
        out = jnp.einsum("hde,hdn->hen", context, q)
        out = rearrange(out, "heads c (h w) -> (heads c) h w", heads=self.heads, h=h, w=w)
        return self.to_out(out)

def upsample_2d(y, factor=2):
    C, H, W = y.shape
    y = jnp.reshape(y, [C, H, 1, W, 1])
    y = jnp.tile(y, [1, 1, factor, 1, factor])
    return jnp.reshape(y, [C, H * factor, W * factor])

def downsample_2d(y, factor=2):
    C, H, W = y.shape
    y = jnp.reshape(y, [C, H // factor, factor, W // factor, factor])
    return jnp.mean(y, axis=[2, 4])

class Residual(eqx.Module):
    fn: LinearTimeSelfAttention

    def __init__(self, fn):
        self.fn = fn

    def __call__(self, x, *args, **kwargs):
        return self.fn(x, *args, **kwargs) + x

class UNet(eqx.Module):
    time_pos_emb: SinusoidalPosEmb
    mlp: eqx.nn.MLP
    first_conv: eqx.nn.Conv2d
    downs: list
    ups: list
    attention: Residual
    final_conv_layers: list

    def __init__(self, channels, hidden_size, dim_mults, *, key):
        keys = jax.random.split(key, 4)
        del key
        dims = [hidden_size] + [hidden_size * m for m in dim_mults]
        in_out = list(zip(dims[:-1], dims[1:]))
        self.time_pos_emb = SinusoidalPosEmb(hidden_size)
        self.mlp = eqx.nn.MLP(hidden_size, hidden_size, 4 * hidden_size, 1, activation=jax.nn.silu, key=keys[0])
        self.first_conv = eqx.nn.Conv2d(channels, hidden_size, kernel_size=3, padding=1, key=keys[1])
        self.downs = []
        for i, (a, b) in enumerate(in_out):
            self.downs.append(eqx.nn.Conv2d(a, b, 3, padding=1, key=keys[2]))
        self.attention = Residual(LinearTimeSelfAttention(dims[-1], keys[2], heads=2, dim_head=4))
        self.ups = [eqx.nn.Conv2d(b * 2, a, 3, padding=1, key=keys[3]) for a, b in reversed(in_out)]
        self.final_conv_layers = [
            eqx.nn.GroupNorm(min(hidden_size // 4, 32), hidden_size),
            jax.nn.silu,
            eqx.nn.Conv2d(hidden_size, channels, 1, key=keys[3]),
        ]

    def __call__(self, t, y, *, key=None):
        t = self.mlp(self.time_pos_emb(t))
        h = self.first_conv(y) + t[..., None, None]
        hs = []
        for layer in self.downs:
            h = downsample_2d(jax.nn.silu(layer(h)))
            hs.append(h)
        h = self.attention(h) / jnp.sqrt(2)
        for layer in self.ups:
            h = upsample_2d(layer(jnp.concatenate((h, hs.pop()), axis=0)))
        for layer in self.final_conv_layers:
            h = layer(h)
        return h

model = UNet(3, 16, [1, 2], key=jr.key(0))
"""

PUBLISHED = {
    "nnx MNIST": ("nnx", FLAX_CNN, [(2, 28, 28, 1)]),
    "nnx VAE": ("nnx", FLAX_VAE, [(2, 28, 28)]),
    "linen MNIST": ("linen", LINEN_CNN, [(2, 28, 28, 1)]),
    "linen ResNet": ("linen", LINEN_RESNET, [(2, 64, 64, 3)]),
    "linen VAE": ("linen", LINEN_VAE, [(2, 784)]),
    "Equinox MNIST": ("equinox", EQUINOX_CNN, [(1, 28, 28)]),
    "Equinox GAN": ("equinox", EQUINOX_GAN, [(3, 16, 16)]),
    "Equinox U-Net": ("equinox", EQUINOX_UNET, [(), (3, 16, 16)]),
}
"""What the text is written for, the text, and the shapes of its inputs."""
