"""Detection heads: dense ones with anchors and without, and two-stage ones.

Shapes: N images, L levels, A places or anchors of all levels, K classes, M objects of an image.

A batch has labels `boxes` [N,M,4] f32 in pixels, `classes` [N,M] i64 with -1 where there is no object, and for masks `masks`
[N,M,H,W] bool. Every head has `losses(maps, images, labels) -> [N], metrics` and `predict(maps, images) -> list of Found`.
"""
