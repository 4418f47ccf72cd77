SELECT /* turn_files.first_passages */ file_id, ordinal, page, content
  FROM file_passages
 WHERE user_id = %(user_id)s AND file_id = ANY (%(file_ids)s::uuid[]) AND ordinal <= %(passages)s
 ORDER BY ordinal, file_id LIMIT %(limit)s
