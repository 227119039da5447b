"""How to test a method, `distiller_zoo/<name>.py`: in `tests/distiller_zoo/test_<name>.py`. Copy test_similarity.py.

1. The formula: against loops in NumPy (tests/naive.py has the common ones), in both precisions and odd shapes.
2. The gradient (`assert_gradient`), known values, and what the loss must not depend on.
3. Odd inputs (odd_inputs.py): zeros, constants, saturated and tiny features give finite losses and gradients.
4. Published weights and defaults (`assert_published`), and options that are refused (`assert_refused`), in cases.py.
That it trains, resumes, reads what it declares and takes several families is tested for every registered method.
"""
