from torch import nn

layer = nn.Conv2d(3, 4, (3, 2), stride=(2, 3), padding=(1, 2), dilation=(2, 1))
