import ncnn

PARAM = """\
7767517
2 2
Input x 0 1 x
Convolution conv 1 1 x y 0=4 1=5 2=2 3=1 4=2 5=1 6=180 11=3 12=1 13=2 14=1 15=3 16=0
"""

layer = ncnn.Net()
layer.load_param_mem(PARAM)
