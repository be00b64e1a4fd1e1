-- SPDX-License-Identifier: Apache-2.0
-- The document store of the quiz daemon: questions are documents. It is here, before the daemon's own tables, because ./s24 up proves the store in it.

SELECT common.create_documents('quiz');
