-- utility; params: none; result: none.
ROLLBACK
