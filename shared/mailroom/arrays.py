"""Lists as parameters of statements."""

from typing import Any

from sqlalchemy import ARRAY, bindparam, func
from sqlalchemy.sql.selectable import NamedFromClause
from sqlalchemy.types import TypeEngine


def rows_of(parameter: str, of: type[TypeEngine[Any]]) -> NamedFromClause:
    """The parameter, a list of this type, as rows with the column `value`, to join with.

    Tables are joined with it rather than searched by `= ANY(…)`, for which PostgreSQL plans badly
    on tables that were empty. One statement may have several, each of its own name.
    """
    values = func.unnest(bindparam(parameter, type_=ARRAY(of)))
    return values.table_valued("value", name=f"rows_of_{parameter}").render_derived()
