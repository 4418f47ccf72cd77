WITH /* turn_files.files */ wanted AS (
    SELECT id FROM files WHERE user_id = %(user_id)s AND id = ANY (%(file_ids)s::uuid[])
    UNION
    (SELECT id FROM files WHERE user_id = %(user_id)s AND project_id = %(project_id)s ORDER BY id DESC
      LIMIT %(limit)s))
SELECT files.id, files.name, files.media_type, files.bytes, file_contents.object,
       file_texts.state, file_texts.characters
  FROM wanted
  JOIN files ON files.user_id = %(user_id)s AND files.id = wanted.id
  JOIN file_contents ON file_contents.user_id = files.user_id AND file_contents.sha256 = files.sha256
  LEFT JOIN file_texts ON file_texts.user_id = files.user_id AND file_texts.file_id = files.id
 ORDER BY files.id
