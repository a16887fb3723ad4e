class Layer(nn.Module):
    """A gated, dilated, causal convolution with a residual and a skip."""

    def __init__(self, channels, skip, dilation):
        super().__init__()
        self.pad = (dilation, 0)
        self.filter = nn.Conv1d(channels, channels, 2, dilation=dilation)
        self.gate = nn.Conv1d(channels, channels, 2, dilation=dilation)
        self.residual = nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, skip, 1)

    def forward(self, x):
        padded = F.pad(x, self.pad)
        y = torch.tanh(self.filter(padded)) * torch.sigmoid(self.gate(padded))
        return x + self.residual(y), self.skip(y)


class WaveNet(nn.Module):
    """van den Oord et al. 2016: 256 levels, dilations 1 … 512, three times."""

    def __init__(self, channels=32, skip=256):
        super().__init__()
        self.start = nn.Conv1d(256, channels, 1)
        self.layers = nn.ModuleList([Layer(channels, skip, 2**i) for _ in range(3) for i in range(10)])
        self.end = nn.Sequential(nn.ReLU(), nn.Conv1d(skip, skip, 1), nn.ReLU(), nn.Conv1d(skip, 256, 1))

    def forward(self, x):
        x, total = self.start(x), 0
        for layer in self.layers:
            x, skip = layer(x)
            total = total + skip
        return self.end(total)
