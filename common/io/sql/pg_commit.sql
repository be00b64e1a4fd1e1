-- utility; params: none; result: none.
COMMIT
