-- utility; params: none; result: none.
BEGIN
