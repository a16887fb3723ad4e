def conv(channels, width, kernel, stride=1):
    return nn.Sequential(nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(width))


class Bottleneck(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.reduce = conv(channels, width, 1)
        self.conv = conv(width, width, 3, stride)
        self.expand = conv(width, 4 * width, 1)
        self.shortcut = None if channels == 4 * width else conv(channels, 4 * width, 1, stride)

    def forward(self, x):
        y = F.relu(self.reduce(x))
        y = F.relu(self.conv(y))
        y = self.expand(y)
        return F.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class ResNet50(nn.Module):
    def __init__(self, classes=1000):
        super().__init__()
        self.stem = conv(3, 64, 7, 2)
        self.stages, channels = nn.ModuleList(), 64
        for width, depth, stride in [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]:
            stage = nn.Sequential()
            for i in range(depth):
                stage.append(Bottleneck(channels, width, stride if i == 0 else 1))
                channels = 4 * width
            self.stages.append(stage)
        self.fc = nn.Linear(2048, classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        for stage in self.stages:
            x = stage(x)
        x = F.adaptive_avg_pool2d(x, 1)
        return self.fc(torch.flatten(x, 1))
