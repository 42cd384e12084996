"""How a moving image lies on a fixed one: methods and transforms by name.

    features    the direction of edges, which both cameras see
    ngf         exhaustive search for rotation, scale and shift
    blocks      local agreement by cell and shift, and models that most cells agree on
    refine      from a rough similarity to a precise matrix
    dense       from a matrix to a smooth field
    classical   what other tools offer: ecc, mi, phase, feature, flow
    score       the independent judge that accepts or refuses
    estimate    one call that does it all
    transform   the file format `fusecli/transform/1`
    rig         one robust transform for a folder

Importing this file imports none of them.
"""

METHODS = ("auto", "ngf", "ecc", "mi", "phase", "feature", "flow")
TRANSFORMS = ("auto", "translation", "euclidean", "similarity", "affine", "homography", "dense")
