class LayerNorm2d(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 4 * width)
        self.reduce = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 1e-6))

    def forward(self, x):
        y = self.depthwise(x).permute(0, 2, 3, 1)
        y = self.reduce(F.gelu(self.expand(self.norm(y)))) * self.scale
        return x + y.permute(0, 3, 1, 2)


class ConvNeXtTiny(nn.Module):
    def __init__(self, classes=1000):
        super().__init__()
        layers, channels = [nn.Conv2d(3, 96, 4, stride=4), LayerNorm2d(96)], 96
        for width, depth in [(96, 3), (192, 3), (384, 9), (768, 3)]:
            if width != channels:
                layers += [LayerNorm2d(channels), nn.Conv2d(channels, width, 2, stride=2)]
                channels = width
            layers += [Block(width) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(768, eps=1e-6)
        self.head = nn.Linear(768, classes)

    def forward(self, x):
        return self.head(self.norm(self.features(x).mean((2, 3))))
