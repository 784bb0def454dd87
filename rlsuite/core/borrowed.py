"""Arrays without reference counts, for compiled code that takes many views of them.

Numba counts the references to an array's memory with atomic operations, for each view that is made and dropped. In a tree search,
where every function takes views of rows, that took two thirds of the time.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import core
from numba.extending import intrinsic

Array = TypeVar("Array")
cgutils: Any = core.cgutils


def _borrowed(typing_context: Any, array: Any) -> Any:
    """The same array without a reference count, for it and for its views.

    Something else must keep the array alive. For an argument of a kernel, the caller does; for an array that the kernel has made
    itself, nothing does.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        view.parent = cgutils.get_null_value(view.parent.type)
        return view._getvalue()

    return array(array), generate


borrowed: Callable[[Array], Array] = intrinsic(_borrowed)  # type: ignore[assignment]
