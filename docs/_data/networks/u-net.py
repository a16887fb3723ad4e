def double(channels, width):
    return nn.Sequential(nn.Conv2d(channels, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU())


class UNet(nn.Module):
    """Ronneberger et al. 2015: convolutions without padding, so the skips are cropped."""

    def __init__(self):
        super().__init__()
        widths = [64, 128, 256, 512, 1024]
        self.down = nn.ModuleList([double(a, b) for a, b in zip([1, *widths[:-1]], widths)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(w, w // 2, 2, stride=2) for w in widths[:0:-1]])
        self.merge = nn.ModuleList([double(w, w // 2) for w in widths[:0:-1]])
        self.head = nn.Conv2d(64, 2, 1)

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1])):
            x = up(x)
            edge = (skip.shape[2] - x.shape[2]) // 2
            x = merge(torch.cat([skip[:, :, edge : edge + x.shape[2], edge : edge + x.shape[3]], x], dim=1))
        return self.head(x)
