"""What torchinfo 1.8.0 and torchsummary 1.5.1 print of one model, without the totals and with shorter rules."""

# ruff: noqa: E501

TORCHINFO = """
Layer (type:depth-idx)                   Output Shape              Param #
========================================
Net                                      [2, 10]                   --
├─Conv2d: 1-1                            [2, 6, 12, 12]            456
├─ReLU: 1-2                              [2, 6, 12, 12]            --
├─Sequential: 1-3                        [2, 12, 6, 6]             --
│    └─Block: 2-1                        [2, 12, 6, 6]             12
│    │    └─Conv2d: 3-1                  [2, 12, 6, 6]             648
│    │    └─BatchNorm2d: 3-2             [2, 12, 6, 6]             24
│    └─Dropout: 2-2                      [2, 12, 6, 6]             --
├─ReLU: 1-4                              [2, 12, 6, 6]             --
├─Linear: 1-5                            [2, 10]                   4,330
========================================
"""

TORCHINFO_NAMES = """
Layer (type (var_name))                  Input Shape               Output Shape              Param #                   Kernel Shape              Mult-Adds                 Trainable
========================================
Net (Net)                                [2, 3, 16, 16]            [2, 10]                   --                        --                        --                        True
├─Conv2d (conv1)                         [2, 3, 16, 16]            [2, 6, 12, 12]            456                       [5, 5]                    131,328                   True
├─ReLU (act)                             [2, 6, 12, 12]            [2, 6, 12, 12]            --                        --                        --                        --
├─Sequential (features)                  [2, 6, 12, 12]            [2, 12, 6, 6]             --                        --                        --                        True
│    └─Block (0)                         [2, 6, 12, 12]            [2, 12, 6, 6]             12                        --                        --                        True
│    │    └─Conv2d (conv)                [2, 6, 12, 12]            [2, 12, 6, 6]             648                       [3, 3]                    46,656                    True
│    │    └─BatchNorm2d (bn)             [2, 12, 6, 6]             [2, 12, 6, 6]             24                        --                        48                        True
│    └─Dropout (1)                       [2, 12, 6, 6]             [2, 12, 6, 6]             --                        --                        --                        --
├─ReLU (act)                             [2, 12, 6, 6]             [2, 12, 6, 6]             --                        --                        --                        --
├─Linear (fc)                            [2, 432]                  [2, 10]                   4,330                     --                        8,660                     True
========================================
"""

TORCHINFO_WITHOUT_INPUT = """
Layer (type:depth-idx)                   Param #
========================================
Net                                      --
├─Conv2d: 1-1                            456
├─Sequential: 1-2                        --
│    └─Block: 2-1                        12
│    │    └─Conv2d: 3-1                  648
│    │    └─BatchNorm2d: 3-2             24
│    └─Dropout: 2-2                      --
├─ReLU: 1-3                              --
├─Linear: 1-4                            4,330
========================================
"""

TORCHSUMMARY = """
        Layer (type)               Output Shape         Param #
========================================
            Conv2d-1            [-1, 6, 12, 12]             456
              ReLU-2            [-1, 6, 12, 12]               0
            Conv2d-3             [-1, 12, 6, 6]             648
       BatchNorm2d-4             [-1, 12, 6, 6]              24
             Block-5             [-1, 12, 6, 6]               0
           Dropout-6             [-1, 12, 6, 6]               0
              ReLU-7             [-1, 12, 6, 6]               0
            Linear-8                   [-1, 10]           4,330
========================================
"""
